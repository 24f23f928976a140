# SPDX-License-Identifier: GPL-3.0-or-later
"""STAR files, row by row: a file of a million particles needs no more memory than one of ten.

Source: the STAR format as RELION writes it (https://relion.readthedocs.io/en/latest/Reference/Conventions.html):
tables that begin with data_NAME, either loops of columns and rows or pairs of label and value.
"""
import re
from dataclasses import dataclass, field
from typing import BinaryIO, Dict, Iterator, List, Optional, Tuple

WORDS = re.compile(r"""'[^']*'(?=\s|$)|"[^"]*"(?=\s|$)|\S+""")
# No table of a particle file has more columns; a line of other text would be cut into more words.
MAX_LINE_BYTES = 1 << 16


class BadStarError(Exception):
    """What is no STAR file."""


@dataclass
class Table:
    """One table: its name without data_, and the labels of its columns without the leading underscore."""
    name: str
    columns: List[str] = field(default_factory=list)

    def row(self, words: List[str]) -> Dict[str, str]:
        return dict(zip(self.columns, words))


def read_rows(path: str) -> Iterator[Tuple[Table, int, List[str]]]:
    """(table, offset of the row in bytes, its words) for every row; a table of pairs is one row, at the offset of its
    last pair.

    Raises BadStarError for a file without a table, and where a row has fewer words than its table has columns.
    """
    table: Optional[Table] = None
    pairs: List[str] = []
    in_loop = False
    offset = 0
    with open(path, "rb") as stream:
        for line in iter(lambda: stream.readline(MAX_LINE_BYTES), b""):
            at, offset = offset, offset + len(line)
            words = split_line(line)
            if not words:
                continue
            first = words[0]
            if first.lower().startswith("data_"):
                if pairs:
                    yield table, at, pairs
                table, pairs, in_loop = Table(first[5:]), [], False
            elif table is None:
                break
            elif first.lower() == "loop_":
                in_loop = True
            elif first.startswith("_") and (not in_loop or len(words) == 1 or words[1].startswith("#")):
                table.columns.append(first[1:])
                if not in_loop:
                    pairs.append(words[1] if len(words) > 1 else "")
            elif in_loop:
                if len(words) < len(table.columns):
                    msg = "its row at byte %d has %d values for %d columns" % (at, len(words), len(table.columns))
                    raise BadStarError(msg)
                yield table, at, words
            else:
                break
        else:
            if pairs:
                yield table, offset, pairs
            if table is not None:
                return
    msg = "it is no STAR file"
    raise BadStarError(msg)


def row_at(stream: BinaryIO, offset: int, table: Table) -> Dict[str, str]:
    """The row of a loop that begins at an offset that ``read_rows`` told."""
    stream.seek(offset)
    return table.row(split_line(stream.readline(MAX_LINE_BYTES)))


def split_line(line: bytes) -> List[str]:
    """b"'a b' 2 # c" -> ['a b', '2', '#', 'c']; a line that is a comment -> []"""
    text = line.decode("utf-8", "surrogateescape")
    if text.lstrip().startswith("#"):
        return []
    if "'" not in text and '"' not in text:
        return text.split()
    return [word[1:-1] if word[0] in "'\"" and word[-1] == word[0] and len(word) > 1 else word
            for word in WORDS.findall(text)]


def number(row: Dict[str, str], *labels: str) -> Optional[float]:
    """The first of some columns that there is, as a number; None where there is none or it is no finite number."""
    for label in labels:
        if label in row:
            try:
                value = float(row[label])
            except ValueError:
                return None
            return value if abs(value) < float("inf") else None
    return None


def split_image(name: str) -> Tuple[Optional[int], str]:
    """'000012@Extract/job1/a.mrcs' -> (12, 'Extract/job1/a.mrcs'), 'a.mrc' -> (None, 'a.mrc')"""
    index, at, path = name.partition("@")
    return (int(index), path) if at and index.isdigit() else (None, name)
