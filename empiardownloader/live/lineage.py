# SPDX-License-Identifier: GPL-3.0-or-later
"""What was made from what: runs, and the sets and runs that their forms point at."""
from typing import Dict, List, Optional

from ..follow.walker import DB_NAME


class Lineage:
    """``take`` each run as it is told; what is not known yet is taken for a beginning."""

    def __init__(self) -> None:
        self._inputs: Dict[str, List[str]] = {}     # of runs: db_names of sets and runs

    def take(self, run_name: str, form: Dict[str, object]) -> None:
        values = [value for entry in form.values() for value in (entry if isinstance(entry, list) else [entry])]
        self._inputs[run_name] = [
            value for value in values if isinstance(value, str) and DB_NAME.fullmatch(value) and value]

    def origins(self, db_name: Optional[str]) -> List[str]:
        """A set, and those that its run was made from, and so on."""
        found: List[str] = []
        todo = [db_name] if db_name else []
        while todo:
            name = todo.pop()
            if name not in found:
                found.append(name)
                todo += self._inputs.get(run_of(name), [])
        return found

    def family(self, db_name: Optional[str]) -> str:
        """The runs that a set comes from in the end: images of one name are the same one only within a family."""
        return "+".join(sorted({run_of(name) for name in self.origins(db_name) if not self._inputs.get(run_of(name))}))


def run_of(db_name: str) -> str:
    return db_name.partition(":")[0]


def is_of(db_name: str, named: Optional[str]) -> bool:
    """Whether a set is what a pointer names: itself, or its run."""
    return bool(named) and (db_name == named or db_name.startswith("%s:" % named))
