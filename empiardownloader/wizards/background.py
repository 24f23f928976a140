# SPDX-License-Identifier: GPL-3.0-or-later
"""Work of a window that takes its time, in threads of its own."""
import contextlib
import queue
import threading
import tkinter as tk

POLL_MS = 40


class Job:
    """ A piece of work: ``stopped`` is set when nobody waits for it any more. """

    def __init__(self, name, told):
        self.name, self.stopped, self._told = name, threading.Event(), told

    def tell(self, function, *arguments):
        """ From the job's thread: call a function in the window's, unless it was stopped by then. """
        self._told.put((self, function, arguments))


class Background:
    """ Jobs of a window, and what it does later. All methods are for the
    window's own thread, in which everything that is told arrives. """

    def __init__(self, window):
        self._window = window
        self._told = queue.Queue()
        self._jobs, self._timers = {}, {}
        self._poller = window.after(POLL_MS, self._poll)

    def start(self, name, work, done, failed):
        """ Begin ``work(job)`` in a thread, in place of the job of that name;
        ``done(result)`` or ``failed(error)`` is called afterwards, unless
        another took its place or it was stopped. """
        self.stop(name)
        job = self._jobs[name] = Job(name, self._told)

        def run():
            try:
                result = work(job)
            except Exception as error:  # noqa: BLE001 - shown by ``failed``
                job.tell(self._end, job, failed, error)
            else:
                job.tell(self._end, job, done, result)

        threading.Thread(target=run, daemon=True, name="window-" + name).start()

    def later(self, name, milliseconds, function):
        """ Schedule a call; it replaces a pending call of the same name. """
        self.forget(name)
        self._timers[name] = self._window.after(milliseconds, function)

    def forget(self, name):
        """ What was to be called later is not. """
        timer = self._timers.pop(name, None)
        if timer is not None:
            with contextlib.suppress(tk.TclError):
                self._window.after_cancel(timer)

    def stop(self, name):
        """ End a job, whose result nobody waits for any more. """
        job = self._jobs.pop(name, None)
        if job is not None:
            job.stopped.set()

    def isBusy(self, name):
        return name in self._jobs

    def close(self):
        """ When the window goes. """
        for name in list(self._jobs):
            self.stop(name)
        self._timers["poll"] = self._poller
        for name in list(self._timers):
            self.forget(name)

    def _end(self, job, function, result):
        del self._jobs[job.name]
        function(result)

    def _poll(self):
        self._poller = self._window.after(POLL_MS, self._poll)
        with contextlib.suppress(queue.Empty):
            while True:
                job, function, arguments = self._told.get_nowait()
                if self._jobs.get(job.name) is job:
                    function(*arguments)
