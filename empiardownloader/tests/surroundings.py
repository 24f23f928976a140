# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test changes around itself for the time being; without Scipion, which takes seconds to load."""
import contextlib
import os


@contextlib.contextmanager
def environment(**variables):
    """Environment variables for the time being; None removes one."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
