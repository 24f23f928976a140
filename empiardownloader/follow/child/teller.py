# SPDX-License-Identifier: GPL-3.0-or-later
"""What has happened in a project since the last look, in the order in which it is told.

Part of the child process (see __main__.py): standard library only, Python 3.6 or newer.

Of a run: NEW_NODE of the run, NEW_NODE of its outputs, PREPARED_SCAN, NEW_DATA, and END_SCAN last. The state of a run
is read before its items, and END_SCAN is told only after them: what was there when the run ended is never missed.
"""
import time

from databases import BusyError, NotYetError, RestartedError, UnreadableError
from marks import digest_of, key_of, unpack_digests, wants_changes
from micrographs import Micrographs
from project import ENDED, KILLED, STARTED, Project

NEW_NODE, NEW_DATA, END_SCAN, PREPARED_SCAN = "NEW_NODE", "NEW_DATA", "END_SCAN", "PREPARED_SCAN"
# Only where they are asked for.
CHANGED_DATA, REMOVED, CLOSED, INFO = "CHANGED_DATA", "REMOVED", "CLOSED", "INFO"
PROJECT, RUN = "project", "run"


# The end of a run waits for so long for an output that is named but has no file, or an empty one.
HIDDEN_SECONDS = 5


class Told:
    """How much of a run was told."""

    def __init__(self, state=None):
        state = state or {"prepared": False, "ended": None}
        self.prepared, self.ended = state["prepared"], state["ended"] is not None
        self.launch, self.status = state["ended"] or (None, None)       # when its end was told
        self.outputs = {}           # by name and class: Seen
        self.info = None            # as it was told last
        self.known = False          # to a reader whose filter looks at nodes


class Seen:
    """How an output was at the last look. ``state``: of an earlier walk, which goes on."""

    def __init__(self, state=None):
        self.told, self.closed = state is not None, state is not None and state["closed"]
        self.visible = self.fresh = False
        self.hidden_since = None
        self.state = state          # until the set was taken up
        self.digest = None          # of a single object, as it was told
        self.info = None


class Teller:
    """Looks at a project, or at the run or output at ``db_name``, and tells what is new."""

    def __init__(self, request):
        self._changes, self._infos = request["changes"], request["infos"]
        self._project = Project(request["project"], self._changes)
        self._micrographs = Micrographs(self._project)
        self._run_name, _, self._output_name = request["db_name"].partition(":")
        self._include, self._exclude = request["include"], request["exclude"]
        self._items = request["items"]          # else nodes only
        self._silent = request["new_only"]      # the first look only learns what is there
        self._first = True
        since = request["since"] or {"project": False, "runs": {}, "sets": {}}
        self._project_told = since["project"]
        self._told = {name: Told(state) for name, state in since["runs"].items()}       # by name of the run
        # A walk that goes on does not tell of the nodes again, and a filter may be about them.
        self._tells_known = request["tells_known"]
        self._since = since["sets"]             # by db_name and class, as long as they were not taken up
        self.pending = True                     # something that is to be told could not be seen at the last look,
        self.busy = False                       # because somebody keeps it locked
        self.gone = False                       # the run that is followed was deleted

    def look(self):
        """The messages since the last look. Raises UnreadableError where nothing can be followed any more."""
        self.pending = self.busy = not self._project.refresh()
        if not self._project_told and not self._run_name:
            self._project_told = True
            yield from self._node(self._project_node())
        elif self._tells_known and self._first and not self._run_name:
            yield {"known": self._project_node()}
        if PROJECT not in self._exclude or self._run_name:
            for run in list(self._project.runs.values()):
                if not self._run_name or run.name == self._run_name:
                    yield from self._look_at(run)
        self.gone = self._run_name in self._told and self._run_name not in self._project.runs
        self._told = {name: told for name, told in self._told.items() if name in self._project.runs}
        self._since = {key: state for key, state in self._since.items()
                       if key.partition(":")[0] in self._project.runs}
        if not self.pending:
            self._first = self._silent = False

    def _look_at(self, run):
        if not run.refresh():
            self.pending = self.busy = True
            return
        if run.problem and self._run_name:
            raise UnreadableError(run.problem)
        told = self._told.get(run.name)
        if told is None:
            told = self._told[run.name] = Told()
            if not self._output_name:
                yield from self._node(self._run_node(run))
                told.info = run.info() if self._infos else None
        elif self._tells_known and not told.known:
            yield {"known": self._run_node(run)}
        told.known = True
        if told.ended and (run.status in STARTED or run.launch != told.launch
                           or (told.status == KILLED and run.has_ended_itself())):
            # Continued, or restarted, or not dead at all: all of it comes once more, but for what was told already.
            told.prepared = told.ended = False
        complete, outputs = True, []
        if RUN not in self._exclude or self._output_name:
            outputs = [output for output in run.outputs.values() if self._output_name in ("", output.name)]
        for output in outputs:
            complete = (yield from self._look_at_output(output, told)) and complete
        visible = any(told.outputs[output.key].visible for output in outputs) if outputs else bool(run.outputs)
        if visible and not told.prepared:
            told.prepared = True
            if not self._output_name:
                yield from self._event(PREPARED_SCAN, self._run_node(run), {"data": run.status})
        for output in outputs:
            if output.type not in self._exclude:
                its = told.outputs[output.key]
                whole = yield from self._data_of(output, its)
                if wants_changes(self._changes, output.type):
                    whole = (yield from self._changes_of(output, its, whole, run.status not in STARTED)) and whole
                complete = whole and complete
        if self._infos:
            yield from self._infos_of(run, told, outputs)
        if not complete or (run.is_undecided and self._tells_of(RUN)):
            self.pending = True
        elif not told.ended and (run.status in ENDED or run.status == KILLED):
            told.ended, told.launch, told.status = True, run.launch, run.status
            node = self._run_node(run)
            yield from self._event(END_SCAN, node, {
                "data": run.status, "description": None if run.status == "finished" else
                node["info"]["error"] or run.status})

    def _look_at_output(self, output, told):
        """Tell of an output that can be seen -> whether nothing is hidden."""
        if output.key not in told.outputs:
            told.outputs[output.key] = Seen(self._since.pop(_key(output), None))
        seen = told.outputs[output.key]
        another = False
        if not output.is_set:
            # Its node may have been told, and the item not yet.
            was_told = seen.told and (seen.state is None or bool(seen.state["seen"]))
            seen.visible, seen.fresh = True, not was_told
            if seen.state is not None and was_told:
                (_, seen.digest), = unpack_digests(seen.state["digests"], [output.id]) or [(None, None)]
                if wants_changes(self._changes, output.type) and seen.digest is not None:
                    yield {"taken_up": _key(output), "digests": [(output.id, seen.digest)]}
            seen.state = None
        else:
            try:
                if output.set is None:
                    raise NotYetError
                output.set.micrograph_of = self._micrographs.finder(output)
                if seen.state is not None:
                    output.set.take_up(seen.state)
                seen.fresh, another = output.set.refresh()
                seen.visible, seen.hidden_since = True, None
                if seen.state is not None:
                    seen.state = None
                    if wants_changes(self._changes, output.type):
                        yield {"taken_up": _key(output), "digests": output.set.digests}
            except BusyError:
                seen.fresh = seen.visible = False
                self.busy = True
                return False
            except NotYetError:
                seen.fresh = seen.visible = False
                # The file of an output that the run's database names may not be there yet, or not any more.
                seen.hidden_since = seen.hidden_since or time.monotonic()
                return time.monotonic() - seen.hidden_since > HIDDEN_SECONDS
            except RestartedError:
                raise
            except UnreadableError as error:
                seen.visible, seen.fresh = True, False
                self._has_problem(output, str(error))
        if not seen.told or another:
            seen.told, seen.closed, seen.digest = True, False, None
            yield from self._node(self._output_node(output))
            seen.info = output.info() if self._infos else None
        return True

    def _has_problem(self, output, problem):
        """Raise in a walk of this output only; other walks get the problem in the node's info."""
        if self._output_name:
            raise UnreadableError(problem)
        output.set.problem = problem

    def _data_of(self, output, seen):
        """Tell of the items that are new -> whether all could be seen."""
        if not seen.fresh:
            return True
        if not output.is_set:
            if self._wants_items(output):
                names, item = output.single_item()
                seen.digest = digest_of(item[4])
                yield from self._items_of(output, 0, names, [item])
            return True
        try:
            if not self._wants_items(output):
                output.set.has_looked()
            elif self._silent:
                output.set.skip_items()
            else:
                for first, names, items in output.set.new_items():
                    seen.closed = False         # it was opened again
                    yield from self._items_of(output, first, names, items)
        except NotYetError:
            return False
        except UnreadableError as error:
            self._has_problem(output, str(error))
        return True

    def _changes_of(self, output, seen, whole, at_once):
        """Tell of the items that have changed or are gone, and whether the set was closed -> whether all could be
        seen. ``whole``: all its items were told; ``at_once``: a run that has ended is looked at to the end."""
        if not seen.visible or not self._wants_items(output):
            return True
        if not output.is_set:
            names, item = output.single_item()
            digest = digest_of(item[4])
            if digest != seen.digest:
                seen.digest = digest
                yield from self._items_of(output, 0, names, [item], CHANGED_DATA)
            return True
        try:
            if output.set.wants_scan(at_once):
                for first, names, items in output.set.changed_items():
                    kind = CHANGED_DATA if first >= 0 else REMOVED
                    yield from self._items_of(output, first, names, items, kind)
        except NotYetError:
            return False
        except UnreadableError as error:
            self._has_problem(output, str(error))
            return True
        is_closed = output.info().get("stream_state") == "closed"
        # Not of a set whose items cannot be read.
        all_told = whole and output.set.is_scanned and not output.set.problem
        if is_closed and not seen.closed and all_told:
            yield from self._event(CLOSED, self._output_node(output), {"data": "closed"})
        seen.closed = is_closed and (seen.closed or all_told)
        return output.set.is_scanned

    def _infos_of(self, run, told, outputs):
        """Nodes of which something else is known now than when they were told."""
        if not self._output_name:
            yield from self._info_of(told, self._run_node(run))
        for output in outputs:
            seen = told.outputs[output.key]
            if seen.told and seen.visible:
                yield from self._info_of(seen, self._output_node(output))

    def _info_of(self, told, node):
        former, told.info = told.info, node["info"]
        if former is not None and former != told.info:
            yield from self._event(INFO, node, None)

    def state(self):
        """How much was told, as a position has it; once, where all that is there counts as told."""
        runs, sets, exact = {}, {}, {}
        for name, told in self._told.items():
            runs[name] = {"prepared": told.prepared, "ended": [told.launch, told.status] if told.ended else None}
            run = self._project.runs.get(name)
            for output in run.outputs.values() if run is not None else ():
                seen = told.outputs.get(output.key)
                if seen is not None and seen.told:
                    sets[_key(output)] = dict(
                        output.set.state() if output.is_set and output.set is not None
                        else {"seen": [[output.id, output.id]], "marks": {}, "digests": ""}, closed=seen.closed)
                    if wants_changes(self._changes, output.type):
                        exact[_key(output)] = output.set.digests if output.is_set and output.set is not None else [
                            (output.id, seen.digest)] if seen.digest is not None else []
        return {"project": self._project_told, "runs": runs, "sets": sets, "exact": exact}

    def _wants_items(self, output):
        return self._items and self._tells_of(output.type)

    def _tells_of(self, kind):
        return self._include is None or kind in self._include

    def _items_of(self, output, first, names, items, kind=NEW_DATA):
        node = self._output_node(output)
        yield from self._event(kind, node, {
            "first_index": first, "names": names, "data": items, "block_size": len(items),
            "description": {name: node["info"].get(name) for name in ("dimensions", "stream_state", "size")}})

    def _node(self, node):
        if self._tells_of(node["type"]):
            yield {"event": NEW_NODE, "node": node, "old": self._first}

    def _event(self, kind, node, data):
        if self._items and not self._silent and self._tells_of(node["type"]):
            yield {"event": kind, "node": node, "data": data}

    def _project_node(self):
        project = self._project
        return {"type": PROJECT, "name": project.name, "db_name": "", "info": project.info(), "path": project.folder}

    def _run_node(self, run):
        return {"type": RUN, "name": run.name, "db_name": run.name, "info": run.info(), "path": run.path}

    def _output_node(self, output):
        return {"type": output.type, "name": output.name, "db_name": output.db_name, "info": output.info(),
                "path": output.path}


def _key(output):
    return key_of(output.db_name, output.type)
