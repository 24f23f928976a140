# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in a Scipion project: its runs, their state, their outputs.

Part of the child process (see __main__.py): standard library only, Python 3.6 or newer.

The project's own database lists the runs, but knows how they are only while somebody has the project open; the truth
about a run stands in its logs/run.db, about a set in the set's own file.
"""
import json
import os
import time

from databases import NotYetError, ProjectGoneError, UnreadableError, Watched, is_empty, opened, stamp_of
from marks import wants_changes
from sets import SetFile

STARTED = ("launched", "running")
ENDED = ("finished", "failed", "aborted", "interactive")
PROGRESS = ("extra", "progress.json")     # of a download; constants.py has the name, too
KILLED = "killed"           # our own: the process of a run that says it is running is gone
# A dead process is believed when nothing has come from it for so long; one that was only just launched has not told its
# own number yet.
QUIET_SECONDS = {"running": 3.0, "launched": 30.0}
# One that was never seen alive may run where its process cannot be seen, in a container or on another machine.
UNSEEN_SECONDS = 60.0
# A project without its database is one no more.
GONE_SECONDS = 5.0
# Whether a process of another machine lives cannot be seen from here.
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "gluster", "afs", "fuse", "9p",
                        "pvfs", "orangefs", "ocfs2", "gfs2", "panfs", "virtiofs")
# What the engine keeps with the values of a form.
ENGINE_FIELDS = frozenset((
    "status", "initTime", "endTime", "interactive", "workingDir", "expertLevel", "runName", "runMode", "hostName",
    "hostFullName", "lastUpdateTimeStamp", "allowHeader", "summaryVar", "methodsVar", "forceSchedule"))
SIMPLE = ("String", "Integer", "Float", "Boolean", "CsvList", "Pointer", "PointerList")


class Attribute:
    """A row of Scipion's table of objects, with those that belong to it."""

    def __init__(self, row):
        self.id, self.parent, name, self.class_name, self.value, self.label, self.comment, self.created = row
        self.name = (name or "").rpartition(".")[2]
        self.children = {}

    def get(self, *names):
        """The value of an attribute, or of one of its own; None where there is none."""
        found = self
        for name in names:
            found = found.children.get(name)
            if found is None:
                return None
        return plain(found.class_name, found.value)


def plain(class_name, value):
    """A value as it is in Python: '12' of class Integer -> 12. Scipion writes None in three ways."""
    if value in (None, "None", ""):
        return None if class_name != "CsvList" else []
    try:
        if class_name == "Integer":
            return int(float(value))
        if class_name == "Float":
            return float(value)
        if class_name == "Boolean":
            return str(value).lower() in ("1", "true")
    except ValueError:
        return str(value)
    if class_name == "CsvList":
        return [part.strip() for part in str(value).split(",") if part.strip()]
    return str(value)


def read_objects(path):
    """{id: Attribute} of a database like project.sqlite or run.db, those without parents among them."""
    with opened(path) as connection:
        rows = connection.execute("SELECT id, parent_id, name, classname, value, label, comment, creation FROM Objects "
                                  "ORDER BY id").fetchall()
    found = {row[0]: Attribute(row) for row in rows}
    for attribute in found.values():
        parent = found.get(attribute.parent)
        if parent is not None:
            # In the order of their ids: of two rows with one name the newer one counts.
            parent.children[attribute.name] = attribute
    return found


class Project:
    """The runs of a project, as they are at the last look. ``changes``: as of wants_changes."""

    def __init__(self, folder, changes=False):
        self.changes = changes
        self.folder = os.path.abspath(os.path.expanduser(folder))
        self.name = os.path.basename(self.folder)
        self._database = Watched(os.path.join(self.folder, "project.sqlite"))
        self.runs = {}              # by name, in the order in which they were made
        self._gone_since = None
        if not os.path.isdir(self.folder):
            raise UnreadableError("There is no folder %s here." % self.folder)
        if not os.path.exists(self._database.path):
            raise UnreadableError("%s is no Scipion project: it has no project.sqlite." % self.folder)
        self._refresh_first()

    def _refresh_first(self):
        """Fail within seconds where the project cannot be read."""
        deadline = time.monotonic() + 10
        while not self.refresh():
            if time.monotonic() > deadline:
                raise UnreadableError("%s is no database of a Scipion project, or it is being written without pause." %
                                 self._database.path)
            time.sleep(0.1)

    def refresh(self):
        """Look which runs there are -> False where that cannot be seen just now. Raises UnreadableError."""
        stamps = self._database.stamps()
        if stamps is None:
            return True
        if stamps[0] is None:
            # It may be on its way to another name, and back.
            self._gone_since = self._gone_since or time.monotonic()
            if time.monotonic() - self._gone_since < GONE_SECONDS:
                return False
            raise ProjectGoneError("The project %s is not there any more." % self.folder)
        self._gone_since = None
        try:
            objects = read_objects(self._database.path)
        except NotYetError:
            return False
        self._database.has_read(stamps)
        runs = {}
        for attribute in objects.values():
            folder = attribute.get("workingDir")
            # A new run is stored twice: first with the folder ".", to get the number of which its own has its name.
            if attribute.parent is None and folder not in (None, os.curdir) and "status" in attribute.children:
                name = os.path.basename(folder)
                run = runs[name] = self.runs.get(name) or Run(self, attribute.id, name, folder)
                run.listed_as(attribute)
        self.runs = runs
        return True

    def run_named(self, run_id):
        return next((run.name for run in self.runs.values() if run.id == run_id), None)

    def output_named(self, number):
        return next((output.db_name for run in self.runs.values() for output in run.outputs.values()
                     if output.id == number), None)

    def info(self):
        return {"project": self.folder, "runs": len(self.runs)}


class Run:
    """A run and its outputs."""

    def __init__(self, project, run_id, name, folder):
        self.project, self.id, self.name = project, run_id, name
        self.path = os.path.join(project.folder, folder)
        self._database = Watched(os.path.join(self.path, "logs", "run.db"))
        self._signs_of_life = [os.path.join(self.path, *names) for names in (
            ("logs", "run.db"), ("logs", "run.stdout"), PROGRESS)]
        self._listed = self._row = None
        self._was_there, self._away_since = False, None     # of the run's own database
        self.outputs = {}
        self._once_seen = {}            # outputs; at a launch run.db is an older copy for a moment, and lacks them
        self.status = "new"
        self.problem = ""
        self._quiet = (None, 0.0)       # the last signs of life, and since when there were none
        self.is_undecided = False       # its process is gone, but only just
        self._seen_alive = None         # the number of its process, once that was seen

    def listed_as(self, attribute):
        """How the project's own database has it."""
        self._listed = attribute

    @property
    def launch(self):
        """Changes with each launch."""
        return self._row.get("initTime")

    def refresh(self):
        """Look how it is -> False where that cannot be seen just now."""
        stamps = self._database.stamps()
        if self._row is None or stamps is not None or is_empty(self._database.path):
            row = self._listed
            self.problem = ""
            try:
                row = read_objects(self._database.path).get(self.id, row)
            except NotYetError:
                if not is_empty(self._database.path) or self._is_being_made_anew():
                    return False
            except UnreadableError as error:
                self.problem = str(error)
            else:
                self._away_since, self._was_there = None, True
            if stamps is not None:
                self._database.has_read(stamps)
            self._row = row
            self._find_outputs()
        self.status = self._state()
        return True

    def _is_being_made_anew(self):
        """Whether the run's database was there a moment ago: a Restart takes all away, and the project's own database
        still tells of the launch before."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        return self._was_there and now - self._away_since < GONE_SECONDS

    def _find_outputs(self):
        named = self._row.get("_outputs") or []
        self.outputs = {}
        for name, attribute in self._row.children.items():
            is_set = "_mapperPath" in attribute.children
            if not is_set and (name not in named or attribute.class_name in SIMPLE):
                continue
            output = self._once_seen.get((name, attribute.class_name))
            if output is None:
                output = self._once_seen[(name, attribute.class_name)] = Output(self, attribute, is_set)
            output.listed_as(attribute)
            self.outputs[name] = output

    def _state(self):
        status = self._row.get("status") or "new"
        self.is_undecided = False
        if status not in STARTED:
            return status
        signs = [stamp for stamp in map(stamp_of, self._signs_of_life) if stamp is not None]
        latest = max((stamp[0] / 1e9 for stamp in signs), default=0.0)
        if not self._process_is_gone(latest):
            self._quiet = (None, 0.0)
            return status
        if signs != self._quiet[0]:
            self._quiet = (signs, time.monotonic())
        # By its files' time, where that is long ago; by our own, where the clocks differ.
        patience = QUIET_SECONDS[status]
        if self._seen_alive != self._row.get("_pid"):
            patience = max(patience, UNSEEN_SECONDS)
        if max(time.monotonic() - self._quiet[1], time.time() - latest) < patience:
            self.is_undecided = True
            return status
        # The next program that opens the project finds the run dead too, and writes that into the project's database.
        listed = self._listed.get("status")
        return listed if listed in ENDED else KILLED

    def has_ended_itself(self):
        """Whether its own database says so; the project's may say it of a run that somebody found dead."""
        return self._row.get("status") in ENDED

    def _process_is_gone(self, latest):
        pid = self._row.get("_pid")
        if not pid or self._row.get("_useQueue") or self._row.get("_jobId") or not is_local(self.path):
            return False
        if is_run(pid, self.name, latest):
            self._seen_alive = pid
            return False
        return True

    def info(self):
        row = self._row
        form = {}
        for name, attribute in row.children.items():
            if name.startswith("_") or name in ENGINE_FIELDS or attribute.class_name not in SIMPLE:
                continue
            if attribute.class_name == "Pointer":
                form[name] = self.pointed_at(attribute)
            elif attribute.class_name == "PointerList":
                form[name] = [self.pointed_at(pointer) for pointer in attribute.children.values()]
            else:
                form[name] = row.get(name)
        error = row.get("_error")
        if self.status == KILLED:
            error = "The process of the run is gone (it was killed, or the machine went down); Continue goes on."
        info = {
            "project": self.project.folder, "id": self.id, "class": self._listed.class_name,
            "created": self._listed.created, "label": self._listed.label, "comment": self._listed.comment,
            "status": self.status, "error": error,
            "pid": row.get("_pid"), "host": row.get("hostName"), "started": row.get("initTime"),
            "ended": row.get("endTime"), "steps": row.get("_numberOfSteps"), "steps_done": row.get("_stepsDone"),
            "form": form, "outputs": list(self.outputs)}
        if self.problem:
            info["problem"] = self.problem
        progress = self._progress()
        if progress is not None:
            info["progress"] = progress
        return info

    def pointed_at(self, pointer):
        """The db_name of what a form points at."""
        try:
            number = int(pointer.value)
        except (TypeError, ValueError):
            return None
        name = self.project.run_named(number) or self.project.output_named(number)
        extended = pointer.get("_extended")
        return name if not name or not extended else "%s:%s" % (name, extended)

    def _progress(self):
        """How far a download is; runs of other protocols have no such file."""
        try:
            with open(os.path.join(self.path, *PROGRESS), encoding="utf-8") as stream:
                return json.load(stream)
        except (OSError, ValueError):
            return None


class Output:
    """What a run brought forth: a set, in a file of its own, or a single object."""

    def __init__(self, run, attribute, is_set):
        self.run, self.name, self.type, self.is_set = run, attribute.name, attribute.class_name, is_set
        self.key = (self.name, self.type)
        self.db_name = "%s:%s" % (run.name, self.name)
        self.set = None
        self.listed_as(attribute)

    def listed_as(self, attribute):
        """How the run's database has it."""
        self._row = attribute
        location = attribute.get("_mapperPath")
        if not location:
            return
        path = os.path.join(self.run.project.folder, location[0])
        prefix = location[1] if len(location) > 1 else ""
        if self.set is None or (self.set.path, self.set.prefix) != (path, prefix):
            self.set = SetFile(self.run.project.folder, path, prefix,
                               wants_changes(self.run.project.changes, self.type))

    @property
    def id(self):
        return self._row.id

    @property
    def path(self):
        if self.is_set:
            return self.set.path if self.set is not None else None
        name = self._row.get("_filename")
        return os.path.join(self.run.project.folder, name) if name else None

    @property
    def micrographs_pointer(self):
        return self._row.children.get("_micrographsPointer")

    def single_item(self):
        """A single object as the only item of its output -> (names of attributes, as in SetFile.new_items)."""
        values = {}
        _flatten(self._row, "", values)
        name = self.path or self._row.label or self.name
        return list(values), [self._row.id, self.path, values.get("_index") or 0, os.path.basename(name),
                              list(values.values())]

    def info(self):
        info = {"project": self.run.project.folder, "run": self.run.name, "class": self.type,
                "id": self._row.id, "created": self._row.created}
        if self.set is not None:
            info.update(self.set.info())
        pointer = self.micrographs_pointer
        if pointer is not None:
            info["micrographs"] = self.run.pointed_at(pointer)
        return info


def _flatten(attribute, prefix, values):
    for name, child in attribute.children.items():
        if child.children:
            _flatten(child, prefix + name + ".", values)
        else:
            values[prefix + name] = plain(child.class_name, child.value)


def is_run(pid, name, latest):
    """Whether this process lives and is the run's of that name; process ids are used again.

    ``latest``: when (seconds, as files have it) the run gave a sign of life; a process that began later is another one.
    """
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            command = stream.read()
    except OSError:
        return _exists(pid)
    # A process that has ended and was not asked for yet has no command line any more.
    if b"pw_protocol_run" in command:
        return name.encode("utf-8", "surrogateescape") in command
    return bool(command) and _began(pid) < latest


def _began(pid):
    """When a process began, as files have the time."""
    try:
        with open("/proc/%d/stat" % pid) as stream:
            ticks = int(stream.read().rpartition(")")[2].split()[19])
        with open("/proc/uptime") as stream:
            up = float(stream.read().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def _exists(pid):
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True     # of another user, whose processes may be hidden
    except OSError:
        return False
    return True


def is_local(folder):
    """Whether a folder lies on a file system of this machine, as far as that can be seen."""
    folder = os.path.realpath(folder)
    found, kind = "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
            for line in stream:
                fields = line.split(" ")
                place = fields[1].encode("utf-8", "surrogateescape").decode("unicode_escape")
                if len(place) >= len(found) and (folder + "/").startswith(place.rstrip("/") + "/"):
                    found, kind = place, fields[2]
    except OSError:
        return True
    return not kind.startswith(NETWORK_FILE_SYSTEMS)
