# SPDX-License-Identifier: GPL-3.0-or-later
"""One step on a file's way, on one connection: its state is asked for, a range of it fetched, the whole looked at."""
import logging
import os
import time
from typing import Any, List, Optional, Tuple

from ..archive.errors import BrokenFileError, BusyError, ChangedFileError, LocalNameError, TransientError
from ..archive.remote import Archive, Connection, FileState, Stream
from ..images.header import MRC_HEADER_BYTES, BadImageError
from .board import Board
from .faults import Faults
from .file import FileTransfer, Phase, Piece
from .finisher import Finisher
from .jobs import Outcome
from .parts import Part, remove_leftovers
from .pool import ConnectionPool
from .ranges import MIN_RANGE_BYTES

logger = logging.getLogger(__name__)

# Bytes read and written at once are what arrives in this many seconds: few system calls on a fast line, little
# lost with a killed process on a slow one.
CHUNK_SECONDS = 0.02
MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 4 << 10, 256 << 10     # the most: what a processor's cache holds
# Files that are looked at for a piece to ask for ahead.
MOST_PRESUMED = 3
# Less tells nothing of how fast a connection is.
PACE_BYTES, PACE_SECONDS = 1 << 20, 0.5


class Steps:
    """The steps of all files; called by any worker, each with a file or piece that it has claimed."""

    def __init__(self, archive: Archive, board: Board, pool: ConnectionPool, faults: Faults, finisher: Finisher):
        self._archive, self._pool, self._faults = archive, pool, faults
        self._board, self._plan, self._finisher = board, board.plan, finisher

    def carry_out(self, connection: Connection, file: FileTransfer, piece: Optional[Piece]) -> None:
        if piece is not None:
            piece.connection = connection
            self._fetch(connection, piece)
        elif file.phase is Phase.COMPLETE:
            self._end(connection, file)
        else:
            self._prepare(connection, file)

    def presume(self, file: FileTransfer) -> bool:
        """Whether the first bytes of a file can be requested before its state is known; their answer tells it."""
        job = file.job
        if file.phase is not Phase.NEW or file.single or not self._plan.ranges or os.path.exists(job.target):
            return False
        if not self._acquire(file):
            return True     # once more, and soon
        if not file.held_part.is_fresh:
            return False
        with self._board.changed:
            if job.doubtful():
                file.presume(MRC_HEADER_BYTES, listed=False, awaits_look=True)
            else:
                file.presume(job.size or MIN_RANGE_BYTES, listed=bool(job.size))
        return True

    def _prepare(self, connection: Connection, file: FileTransfer) -> None:
        state = self._state(connection, file)
        job = file.job
        if os.path.exists(job.target) and job.is_whole(state.size):
            if file.part is not None:
                file.part.discard()
            remove_leftovers(job.target)
            self._board.ended(file, Outcome(job, state.size, job.check(job.target), found=True))
            return
        if not self._acquire(file):
            return
        with self._board.changed:
            gaps = self._begin_part(file, state)
            file.prepared(state.size, gaps, file.single or not self._plan.ranges)

    def _state(self, connection: Connection, file: FileTransfer) -> FileState:
        with self._board.changed:
            file.begin_question(connection, time.monotonic())
        try:
            state = connection.state(file.job.path)
        finally:
            with self._board.changed:
                file.question = None
        self._board.line_works()
        return state

    def _begin_part(self, file: FileTransfer, state: FileState) -> List[Tuple[int, int]]:
        """The file's state is known -> the spans that are to be fetched; the lock is held."""
        if state.size == 0:
            msg = "it is empty on the %s" % self._archive.server
            raise BrokenFileError(msg)
        msg = self._archive.other_size(file.job.path, file.job.size, state.size)
        if msg:
            is_page = self._plan.is_page(file.job.path, state.size)
            if file.trouble.doubt_size(state.size, is_page):
                raise (BusyError if is_page else TransientError)(msg)
        gaps: List[Tuple[int, int]] = file.held_part.begin(file.job.path, state)
        file.state = state
        return gaps

    def _acquire(self, file: FileTransfer) -> bool:
        """Get hold of the file's part; False, and look again soon, while another process has it."""
        if file.part is None:
            file.part = Part.acquire(file.job.target)
        if file.part is None:
            if not file.held:
                logger.warning("%s is being fetched by another run: waiting for it.", file.job.target)
            file.not_before = time.monotonic() + 1
        file.held = file.part is None
        return not file.held

    def _fetch(self, connection: Connection, piece: Piece) -> None:
        file, is_new = piece.file, connection.is_new
        asked = piece.began = piece.last_byte = time.monotonic()
        end = None if file.single or piece.to_the_end else piece.end
        also = piece.piggyback.job.path if piece.piggyback else ""
        if piece.is_pipelined:
            end = piece.pipelined_end
        with connection.open(file.job.path, piece.position, end, also) as (state, stream):
            if piece.piggyback is not None:
                self._last_look(piece, stream.also)
            with self._board.changed:
                if file.is_abandoned:
                    return
                if not piece.is_pipelined:
                    self._plan.answered(time.monotonic() - asked, is_new)
                self._recognize(piece, state)
                if stream.whole and end is not None:
                    self.whole_files_only("the %s only sends whole files" % self._archive.server)
                    file.comes_whole(piece)
            self._read(connection, stream, piece)

    def _pipeline(self, connection: Connection, piece: Piece) -> None:
        """The next piece for this connection is asked for while the last bytes of the one at hand are still to come."""
        if self._pool.urgent or self._board.is_pipelined(connection):
            return
        following = self._claim_next()
        if following is None:
            self._pipeline_state(connection, piece)
            return
        with self._board.changed:
            if following.piggyback is None and piece.file.ends_with(piece):
                # The server answers after it has sent the last bytes of the piece.
                following.piggyback, piece.file.is_piggybacked = piece.file, True
        also = following.piggyback.job.path if following.piggyback else ""
        asked = False
        try:
            asked = not following.file.single and connection.pipeline(
                following.file.job.path, following.start, following.pipelined_end, also)
        finally:
            with self._board.changed:
                if asked:
                    self._board.put_pipelined_locked(connection, following)
                else:
                    if following.piggyback is not None:
                        # Nothing has been asked about it, so it may still go along with another one.
                        following.piggyback.is_piggybacked, following.piggyback = False, None
                    following.file.give_back(following)
                    # It may have been refused, or be fetched anew, since it was claimed.
                    self._board.settle_locked(following.file)
                    self._board.changed.notify_all()

    def _pipeline_state(self, connection: Connection, piece: Piece) -> None:
        """The same where only a last look at its file is to follow."""
        file = piece.file
        with self._board.changed:
            if not file.ends_with(piece):
                return
            file.is_piggybacked = True
        asked = False
        try:
            asked = connection.pipeline_state(file.job.path)
        finally:
            with self._board.changed:
                file.is_piggybacked = asked
                if asked:
                    self._board.put_pipelined_locked(connection, file)

    def _claim_next(self) -> Optional[Piece]:
        """The next piece, where nothing has to be known of its file before."""
        for _ in range(MOST_PRESUMED):
            with self._board.changed:
                task = self._plan.claim(time.monotonic(), self._pool.limit, ahead=True)
                if task is None or isinstance(task, Piece):
                    if task is not None:
                        task.is_pipelined, task.pipelined_end = True, None if task.to_the_end else task.end
                    return task
            presumed = False
            try:
                presumed = task.phase is Phase.NEW and self.presume(task)
            except LocalNameError:
                pass        # whoever claims it next meets that, too, with no other file at hand to be blamed
            finally:
                with self._board.changed:
                    task.busy = False
                    self._board.settle_locked(task)
                    self._board.changed.notify_all()
            if not presumed:
                return None
        return None

    def _recognize(self, piece: Piece, state: FileState) -> None:
        """An answer tells about the piece's file, perhaps for the first time; the lock is held.

        Raises ChangedFileError."""
        file = piece.file
        if file.single and file.state is not None and not state.same_as(file.state):
            # What is told with the bytes is nearer to them than what was told before.
            self._begin_part(file, state)
            file.size = piece.end = state.size
        elif file.state is None:
            self._begin_part(file, state)
            file.confirm(state.size)
            self._board.changed.notify_all()
        elif not file.single:
            self._compare(file, state)

    def _compare(self, file: FileTransfer, state: FileState) -> None:
        """Raises ChangedFileError where it is not the version any more that the first bytes are of."""
        if file.state is None or not state.same_as(file.state):
            msg = "%s changed on the %s" % (file.job.path, self._archive.server)
            raise ChangedFileError(msg)

    def whole_files_only(self, why: Any) -> None:
        if self._plan.ranges:
            logger.warning("%s: every file gets one connection.", why)
        self._plan.ranges = False

    def _read(self, connection: Connection, stream: Stream, piece: Piece) -> None:
        file, chunk, tried = piece.file, MIN_CHUNK_BYTES, not self._plan.ranges
        while piece.remaining > 0 and not self._board.over and not file.is_abandoned:
            before = time.monotonic()
            data = stream.read(min(chunk, piece.remaining))
            if not data:
                msg = "the %s sent less of %s than it promised" % (self._archive.server, file.job.path)
                raise BrokenFileError(msg)
            if piece.position == 0 and not self._is_wanted(file, data):
                break
            if file.held_part.write(piece.position, data):
                self._finisher.sync(file.held_part)
            now = time.monotonic()
            with self._board.changed:
                self._board.arrived_locked(piece, len(data), now)
                self._faults.hopeless = 0
            if self._pool.urgent and not file.single and self._pool.wanted_at_once():
                break
            if not tried and self._plan.nearly_done(piece):
                tried = True
                self._pipeline(connection, piece)
            wanted = int(len(data) * CHUNK_SECONDS / max(now - before, 1e-6))
            chunk = min(max(wanted, MIN_CHUNK_BYTES), 2 * chunk, MAX_CHUNK_BYTES)
        count, seconds = piece.position - piece.flowed, time.monotonic() - piece.flowing
        if piece.flowing and (count > PACE_BYTES or seconds > PACE_SECONDS):
            with self._board.changed:
                self._plan.pace = count / max(seconds, 1e-6)

    def _is_wanted(self, file: FileTransfer, start: memoryview) -> bool:
        """Whether the first bytes show a file worth fetching; where they do not it is skipped."""
        try:
            file.job.look(bytes(start[:MRC_HEADER_BYTES]), file.size or 0)
        except BadImageError as error:
            with self._board.changed:
                self._board.received += len(start)
                file.refuse(str(error))
            return False
        with self._board.changed:
            file.awaits_look = False
            self._board.changed.notify_all()
        return True

    def _last_look(self, piece: Piece, state: Optional[FileState]) -> None:
        """What was told along with a piece about a file of which all bytes are there."""
        file = piece.piggyback
        assert file is not None
        with self._board.changed:
            file.drop_piggyback(piece)
            if state is None or file.phase is not Phase.COMPLETE or file.is_abandoned:
                return
            try:
                self._compare(file, state)
                file.phase = Phase.FINISHING
            except ChangedFileError as error:
                self._faults.changed(file, error)
        if file.phase is Phase.FINISHING:
            self._finisher.submit(file)
        else:
            self._board.ended(file, None)

    def _end(self, connection: Connection, file: FileTransfer) -> None:
        # Whatever its answers said when they began: a range goes on bringing the old version, or a mixture.
        if not file.single:
            self._compare(file, self._state(connection, file))
        with self._board.changed:
            if file.is_abandoned:
                return      # by another worker, while the server was asked
            file.phase = Phase.FINISHING
        self._finisher.submit(file)
