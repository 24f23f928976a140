# SPDX-License-Identifier: GPL-3.0-or-later
"""What a viewer says of a run as a whole: pairs of words, of what a walker knows of it."""
from typing import Any, Dict, List, Tuple

from ..follow import NodeContent
from ..units import format_bytes, format_seconds

LONGEST_ERROR = 300


def head_of(run: NodeContent, with_state: bool = False) -> List[Tuple[str, str]]:
    """What is not known is left out."""
    info = run.info
    pairs = [("Run", info.get("label") or run.name), ("Entry", _entry(info.get("form") or {})),
             ("State", info.get("status") or "" if with_state else "")]
    pairs += _progress(info.get("progress") or {}, info.get("status") or "")
    if info.get("status") in ("failed", "aborted", "killed"):
        pairs.append(("Error", str(info.get("error") or "")[:LONGEST_ERROR]))
    return [(term, words) for term, words in pairs if words]


def _entry(form: Dict[str, Any]) -> str:
    entry = str(form.get("entryId") or "").strip()
    return "EMPIAR-%s" % entry if entry.isdigit() else entry


def _progress(progress: Dict[str, Any], status: str) -> List[Tuple[str, str]]:
    """Of a download: what it wrote of itself (Progress)."""
    if not progress:
        return []
    images, wanted = progress.get("images"), progress.get("images_wanted")
    done, total = progress.get("done_bytes"), progress.get("total_bytes")
    found = []
    if images is not None:
        found.append(("Downloaded", "%d%s %s" % (
            images, "" if wanted is None else " of %d" % wanted, progress.get("words") or "images")))
    if done is not None:
        found.append(("Size", format_bytes(done) + (" of %s" % format_bytes(total) if total else "")))
    skipped = progress.get("skipped")
    if skipped:
        found.append(("Skipped", "%d file%s, see the run's summary" % (skipped, "" if skipped == 1 else "s")))
    if status == "running":
        # Of a run that is over these are of the past.
        if progress.get("rate"):
            found.append(("Rate", "%.1f MB/s" % (progress["rate"] / 1e6)))
        if progress.get("seconds_left") is not None:
            found.append(("Time left", "about %s" % format_seconds(progress["seconds_left"])))
        found.append(("Waiting", progress.get("remark") or ""))
    return found
