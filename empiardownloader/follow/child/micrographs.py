# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the micrographs that coordinates lie on: those have none themselves.

Part of the child process (see __main__.py): standard library only, Python 3.6 or newer.
"""
import functools
import os

from databases import NotYetError, UnreadableError, opened, stamp_of


class Micrographs:
    """Of a project. A set is read when a number is asked for that was not in it, and it has changed since."""

    def __init__(self, project):
        self._project = project
        self._known = {}        # path of a set -> (its stamp, {number: file})

    def finder(self, output):
        """For SetFile.micrograph_of; None where an output points at no micrographs."""
        pointer = output.micrographs_pointer
        return None if pointer is None else functools.partial(self._file, output.run, pointer)

    def _file(self, run, pointer, number):
        its = self._set(run, pointer)
        if its is None:
            return None
        stamp, files = self._known.get(its.path, (None, {}))
        now = stamp_of(its.path)
        if number not in files and now is not None and now != stamp:
            found = self._read(its.path)
            if found is not None:
                files = found
                self._known[its.path] = now, files
        return files.get(number)

    def _set(self, run, pointer):
        name = run.pointed_at(pointer)
        if name is None:
            # Of a run that nobody follows it is not known what it has.
            for other in list(self._project.runs.values()):
                other.refresh()
            name = run.pointed_at(pointer)
        run_name, _, output_name = (name or "").partition(":")
        its = self._project.runs.get(run_name)
        output = its.outputs.get(output_name) if its is not None else None
        return output.set if output is not None else None

    def _read(self, path):
        """{number: file}; None where it cannot be read just now."""
        try:
            with opened(path) as connection:
                column = dict(connection.execute("SELECT label_property, column_name FROM Classes")).get("_filename")
                if column is None or not column.isalnum():
                    return {}
                rows = connection.execute("SELECT id, %s FROM Objects" % column).fetchall()
        except (NotYetError, UnreadableError):
            return None
        return {number: os.path.join(self._project.folder, name) for number, name in rows if name}
