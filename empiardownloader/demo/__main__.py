# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo: an entry becomes a set of movies in a Scipion project, through Scipion's own launcher.

To be run in the environment that environment.py makes.
"""
import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

from pwem.objects import SetOfMovies
from pyworkflow.project import Manager

from ..archive.entry import parse_entry_id
from ..archive.errors import EntryError
from ..download.progress_line import ProgressLine
from ..live.viewers import BY_NAME
from . import entries, kinds
from .archive import DemoArchive

PROJECT = "EmpiarDemo"
RATE = 1500000      # bytes a second for one connection, as EMPIAR's own servers give
START_SECONDS = 90


def main():
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0])
    parser.add_argument("--entry", type=_entry,
                        help="an entry of the real EMPIAR; without it a small archive on this machine")
    parser.add_argument("--movies", type=_positive, default=None, metavar="N", help="how many movies")
    parser.add_argument("--kind", default="movies", choices=["movies", *kinds.NUMBERS], metavar="KIND",
                        help="what the small archive's entry holds: movies, %s" % ", ".join(kinds.NUMBERS))
    parser.add_argument("--live", choices=sorted(BY_NAME), help="show the images in this viewer as they come")
    parser.add_argument("--folder", default=".demo", help="where the demo archive goes")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if options.entry is None:
            root = os.path.join(os.path.abspath(options.folder), "archive")
            records, emdb = entries.build(root, options.kind)
            archive = stack.enter_context(DemoArchive(root, records, emdb, rate=RATE))
            os.environ.update(archive.variables)
        return show(options)


def _positive(text):
    if not text.isdecimal() or not int(text):
        msg = "MOVIES must be a number from 1 on, not %s" % text
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _entry(text):
    try:
        return parse_entry_id(text)
    except EntryError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def show(options):
    """Create the project from the workflow, schedule it, watch it; the exit code."""
    folder = os.path.join(os.environ["SCIPION_USER_DATA"], "projects", PROJECT)
    shutil.rmtree(folder, ignore_errors=True)
    workflow = os.path.join(os.path.abspath(options.folder), "workflow.json")
    with open(os.path.join(os.path.dirname(__file__), "workflow.json"), encoding="utf-8") as stream:
        steps = json.load(stream)
    steps[0]["entryId"] = options.entry or kinds.NUMBERS.get(options.kind, entries.NUMBER)
    if options.kind != "movies":
        steps[0]["allImages"] = options.movies is None
    if options.movies is not None:
        steps[0]["amountOfImages"] = options.movies
    with open(workflow, "w", encoding="utf-8") as stream:
        json.dump(steps, stream, indent=4)
    print("Creating the project %s and importing the workflow ..." % PROJECT, flush=True)
    log = os.path.join(os.path.abspath(options.folder), "launcher.log")
    for script in (["create", PROJECT, workflow], ["schedule", PROJECT]):
        command = [sys.executable, "-m", "scipion", "python", "-m", "pyworkflow.project.scripts." + script[0]]
        # Into a file: the scheduler goes on in the background and would keep a pipe open until the run's end.
        with open(log, "w", encoding="utf-8") as stream:
            done = subprocess.run(command + script[1:], stdout=stream, stderr=subprocess.STDOUT)
        if done.returncode:
            print("The launcher could not %s the project: see %s." % (script[0], log))
            return 1
    follower = None
    if options.live:
        follower = subprocess.Popen([sys.executable, "-m", "empiardownloader.live", options.live, folder])
    run = watch(folder)
    if run is None:
        return 1
    if not run.isFinished():
        # The engine colours the message for terminals and puts words in front of it.
        reason = re.sub(r"\x1b\[\d*m", "", run.getErrorMessage() or "").replace("Protocol failed: ", "")
        print("\nThe run %s: %s" % (run.getStatus(), reason or "see its logs in %s" % folder))
        return 1
    print()
    print("\n".join(map(plain, run.summary())))
    for name, output in run.iterOutputAttributes():
        print("\n%s: %s\n  %d items, %s pixels, %g A/px, %s" % (
            name, output, output.getSize(), " x ".join(map(str, output.getDim())), output.getSamplingRate(),
            "closed" if output.isStreamClosed() else "open"))
        if isinstance(output, SetOfMovies):
            print("  frames %s, gain reference: %s" % (output.getFramesRange().rangeStr(), output.getGain()))
    # Scipion starts its own parts as python3.
    print("\nThe project is %s; in a window:\n  PATH=%s:$PATH SCIPION_HOME=%s SCIPION_USER_DATA=%s python3 -m scipion "
          "project %s" % (folder, os.path.dirname(sys.executable), os.environ.get("SCIPION_HOME", ""),
                          os.environ["SCIPION_USER_DATA"], PROJECT))
    if follower is not None and follower.poll() is not None:
        print("\nThe viewer has ended; above it says why.", flush=True)
        return follower.returncode
    if follower is not None:
        print("\n%s to end." % ("Ctrl-C" if BY_NAME[options.live].is_page else "Close the viewer's window"), flush=True)
        try:
            return follower.wait()
        except KeyboardInterrupt:
            return follower.wait()
    return 0


def plain(text):
    """Without Scipion's markup: '*EMPIAR-1*', '_note_', '[[address][words]]'"""
    text = re.sub(r"\[\[([^\]]+)\]\[([^\]]+)\]\]", lambda found: found.group(2) if found.group(2) in found.group(1)
                  else "%s: %s" % (found.group(2), found.group(1)), text)
    return re.sub(r"(^|\s)([*_])([^\s*_](?:[^*]*?[^\s*_])?)\2(?=\W|$)", r"\1\3", text)


def watch(folder):
    """Follow the only run of the project with one line until it ends -> the run, None if it never began."""
    os.chdir(folder)
    project = Manager().loadProject(PROJECT)
    started, begun, stage = time.monotonic(), False, ""
    with ProgressLine(sys.stdout) as line:
        while True:
            # Before it has a process of its own, a scheduled run would look dead.
            runs = project.getRuns(refresh=True, checkPids=begun)
            if not runs:
                break
            run = runs[0]
            begun = begun or run.isRunning() or run.isFinished()
            share, now, text = look(run)
            line.show(share, text, important=now != stage)
            stage = now
            if run.isFinished() or run.isFailed() or run.isAborted():
                return run
            if not begun and time.monotonic() - started > START_SECONDS:
                break
            time.sleep(0.5)
    print("The run was not started within %d s: see the logs in %s." % (START_SECONDS, folder))
    return None


def look(run):
    """-> how much of the whole run is done (0 to 1), its stage, and words for it.

    The download is most of it; the last movies are registered and the set is closed after it.
    """
    registered = len(run.getSets().getRegisteredNames())
    try:
        with open(run.getProgressFile(), encoding="utf-8") as stream:
            progress = json.load(stream)
    except (OSError, ValueError):
        return 0, "start", "Starting the run"
    wanted = progress["images_wanted"]
    done = progress["done_bytes"] / progress["total_bytes"] if progress["total_bytes"] else 0
    if run.isFinished():
        return 1, "finished", "Finished: %d files registered" % registered
    if wanted is None or progress["images"] < wanted:
        return 0.8 * done, "download", "%s, %d registered" % (progress["text"], registered)
    if registered < wanted:
        return 0.8 + 0.15 * registered / wanted, "register", "Registering: %d of %d files" % (registered, wanted)
    return 0.95, "close", "Closing the set of %d files" % registered


if __name__ == "__main__":
    sys.exit(main())
