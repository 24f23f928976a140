# SPDX-License-Identifier: GPL-3.0-or-later
"""For pytest started by hand: the settings that Scipion's launcher would make, before anything imports pyworkflow."""
import importlib.util
import itertools
import os
import signal

# A job in the background, or of nohup, is born deaf to Ctrl-C and hang-ups, and so would be every child of a test.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.setdefault("SCIPION_DOMAIN", "pwem")
os.environ.setdefault("SCIPION_NOTIFY", "False")
if "SCIPION_HOSTS" not in os.environ and importlib.util.find_spec("scipion"):
    os.environ["SCIPION_HOSTS"] = os.path.join(
        os.path.dirname(importlib.util.find_spec("scipion").origin), "templates", "hosts.template")
# Tests that run side by side have projects of their own: each class makes one under its own name.
if os.environ.get("PYTEST_XDIST_WORKER") and os.environ.get("SCIPION_USER_DATA"):
    os.environ["SCIPION_USER_DATA"] = os.path.join(os.environ["SCIPION_USER_DATA"], os.environ["PYTEST_XDIST_WORKER"])


def pytest_configure(config):
    config.addinivalue_line("markers", "quick: runs in seconds, on every Python (make quick)")


def pytest_collection_modifyitems(items):
    """Of a module that says IS_QUICK = True, or of a test that base.quick marks."""
    for item in items:
        if getattr(item.module, "IS_QUICK", False) or getattr(item.function, "IS_QUICK", False):
            item.add_marker("quick")
    items[:] = dealt(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def dealt(items, workers):
    """The tests in such an order that each worker, which is given a row of them, has its share of the long ones and
    begins with them: short ones fill up the end. Tests of a class share what it sets up, and stay together."""
    classes = [list(tests) for _, tests in itertools.groupby(items, lambda item: (item.module, item.cls))]
    classes.sort(key=lambda tests: all(test.get_closest_marker("quick") for test in tests))
    return [test for worker in range(workers) for tests in classes[worker::workers] for test in tests]
