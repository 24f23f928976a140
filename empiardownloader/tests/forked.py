# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in processes that are forked from one that has loaded Scipion and its plugins already.

To load them takes two seconds of a processor, and Scipion's engine looks for steps every three seconds, which a suite
of hundreds of runs spends in vain; nor does it wait as long as ours before something is asked again. All else is
Scipion's own: what its launcher prepares, its command, its engine. Classes whose runs need a process from the
beginning, or the engine's and our own times, say ``FORKED = False``.
"""
import contextlib
import importlib
import multiprocessing
import os
import shlex
import time
import types
from unittest import mock

PROGRAM = "pw_protocol_run.py"
HASTE = 10      # so many times as fast goes the clock by which the engine looks for steps, and faults are tried again
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["empiardownloader.tests.forked_server"])


@contextlib.contextmanager
def forking():
    """In the block, Scipion's launcher forks."""
    # By its name: in the package above it a function is called like this module.
    launch = importlib.import_module("pyworkflow.protocol.launch")
    run = launch._run

    def forked(command, wait, *streams):
        words = shlex.split(command)
        if PROGRAM not in os.path.basename(words[1]):
            return run(command, wait, *streams)
        process = _context.Process(target=_run, args=(words[2:], dict(os.environ), os.getcwd()))
        process.start()
        if wait:
            process.join()
        return process.pid

    with mock.patch.object(launch, "_run", forked):
        yield


def elsewhere(function, *arguments):
    """What a function of a module gives in another process, which knows Scipion and nothing of this one."""
    here, there = _context.Pipe(duplex=False)
    with here:
        process = _context.Process(target=_tell, args=(there, function, arguments))
        process.start()
        there.close()
        try:
            return here.recv()
        finally:
            process.join()


def _tell(there, function, arguments):
    there.send(function(*arguments))


def _run(arguments, environment, folder):
    """In the new process: what Scipion's program does."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    from pyworkflow.protocol import Protocol, runProtocolMain
    from pyworkflow.utils import LoggingConfigurator

    from empiardownloader import Plugin
    from empiardownloader.archive import api
    from empiardownloader.download import lister
    from empiardownloader.protocols import EmpiarDownloader
    from empiardownloader.transfer.faults import Faults
    # The addresses are those of this test's archive.
    Plugin._defineVariables()
    Protocol._stepsCheckSecs = EmpiarDownloader._stepsCheckSecs = 3 / HASTE
    executor = importlib.import_module("pyworkflow.protocol.executor")
    # Services, servers and folders are asked again as often as ever, and sooner.
    api.FIRST_WAIT_SECONDS /= HASTE
    lister.SETTLE_SECONDS = tuple(seconds / HASTE for seconds in lister.SETTLE_SECONDS)
    wait_after = Faults.wait_after
    Faults.wait_after = lambda self, failures: wait_after(self, failures) / HASTE
    executor.time = types.SimpleNamespace(**dict(vars(time), sleep=lambda seconds: time.sleep(seconds / HASTE)))
    project, database, number, stdout, stderr = arguments
    LoggingConfigurator.setUpProtocolRunLogging(stdout, stderr)
    # As where a process has a terminal of its own.
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
        runProtocolMain(project, database, int(number))
