# SPDX-License-Identifier: GPL-3.0-or-later
"""STAR files, row by row: a file of a million particles needs no more memory than one of ten.

Source: the STAR format as RELION writes it (https://relion.readthedocs.io/en/latest/Reference/Conventions.html):
tables that begin with data_NAME, either loops of columns and rows or pairs of label and value.
"""
import re
from dataclasses import dataclass, field
from typing import BinaryIO, Callable, Dict, Iterator, List, Optional, Tuple

WORDS = re.compile(r"""'[^']*'(?=\s|$)|"[^"]*"(?=\s|$)|\S+""")
# No table of a particle file has more columns; a line of other text would be cut into more words.
MAX_LINE_BYTES = 1 << 16
# Some editors put it in front of a text.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BadStarError(Exception):
    """What is no STAR file."""


@dataclass
class Table:
    """One table: its name without data_, and the labels of its columns without the leading underscore."""
    name: str
    columns: List[str] = field(default_factory=list)
    is_loop: bool = False           # rows of columns; otherwise pairs of label and value, which are one row

    def row(self, words: List[str]) -> Dict[str, str]:
        """Of a label that stands twice the first value counts."""
        first = dict(zip(reversed(self.columns), reversed(words)))
        return {label: first[label] for label in self.columns if label in first}


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be believed: it has not one value for each column."""
    table: Table
    line: int                       # from 1
    values: int


def read_rows(path: str, on_bad: Callable[[BadRow], None] = lambda bad: None) -> Iterator[
        Tuple[Table, int, List[str]]]:
    """(table, offset of the row in bytes, its words) for every row; a table of pairs is one row, at the offset of its
    first pair.

    A row with fewer or more values than its table has columns is told to ``on_bad`` and passed over: which value
    belongs to which column is not known (RELION refuses such a file). Raises BadStarError for a file without a table.
    """
    table: Optional[Table] = None
    pairs: List[str] = []
    offset = pairs_at = number = 0
    rows_begun = False
    with open(path, "rb") as stream:
        for line in iter(lambda: stream.readline(MAX_LINE_BYTES), b""):
            at, offset, number = offset, offset + len(line), number + 1
            if number == 1 and line.startswith(BYTE_ORDER_MARK):
                line = line[len(BYTE_ORDER_MARK):]
            words = split_line(line)
            if not words:
                continue
            first = words[0]
            if first.lower().startswith("data_") and (len(words) == 1 or words[1].lower() == "loop_"):
                if table is not None and pairs:
                    yield table, pairs_at, pairs
                table, pairs, rows_begun = Table(first[5:], is_loop=len(words) > 1), [], False
            elif table is None:
                break
            elif first.lower() == "loop_" and len(words) == 1:
                if pairs:
                    yield table, pairs_at, pairs
                    table, pairs = Table(table.name), []
                table.is_loop = True
            elif first.startswith("_") and not rows_begun and (not table.is_loop or len(words) == 1):
                if not table.is_loop:
                    pairs_at = pairs_at if pairs else at
                    pairs.append(words[1] if len(words) > 1 else "")
                # '_rlnImageName#1'
                table.columns.append(first[1:].partition("#")[0])
            elif table.is_loop:
                rows_begun = True
                if len(words) == len(table.columns):
                    yield table, at, words
                else:
                    on_bad(BadRow(table, number, len(words)))
            elif table.columns:
                on_bad(BadRow(table, number, len(words)))
            else:
                break
        else:
            if table is not None and pairs:
                yield table, pairs_at, pairs
            if table is not None:
                return
    msg = "it is no STAR file"
    raise BadStarError(msg)


def row_at(stream: BinaryIO, offset: int, table: Table) -> Dict[str, str]:
    """The row that begins at an offset that ``read_rows`` told."""
    stream.seek(offset)
    if table.is_loop:
        return table.row(split_line(stream.readline(MAX_LINE_BYTES)))
    words: List[str] = []
    while len(words) < len(table.columns):
        line = stream.readline(MAX_LINE_BYTES)
        if not line:
            break
        pair = split_line(line)
        if pair:
            words.append(pair[1] if len(pair) > 1 else "")
    return table.row(words)


def split_line(line: bytes) -> List[str]:
    """b"'a b' 2 # c" -> ['a b', '2']: a word that begins with # begins a comment"""
    text = line.decode("utf-8", "surrogateescape")
    if "'" not in text and '"' not in text:
        words = text.split()
        quoted = [False] * len(words)
    else:
        found = WORDS.findall(text)
        quoted = [word[0] in "'\"" and word[-1] == word[0] and len(word) > 1 for word in found]
        words = [word[1:-1] if is_quoted else word for word, is_quoted in zip(found, quoted)]
    if "#" in text:
        comment = next((place for place, word in enumerate(words) if word.startswith("#") and not quoted[place]), None)
        words = words[:comment]
    return words


def number(row: Dict[str, str], *labels: str) -> Optional[float]:
    """The first of some columns that is a finite number; None where there is none."""
    values = (to_number(row[label]) for label in labels if label in row)
    return next((value for value in values if value is not None), None)


def to_number(text: str) -> Optional[float]:
    """'1.5' -> 1.5; 'nan', 'inf', 'None' -> None"""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def split_image(name: str) -> Tuple[Optional[int], str]:
    """'000012@Extract/job1/a.mrcs' -> (12, 'Extract/job1/a.mrcs'), 'a.mrc' -> (None, 'a.mrc')"""
    index, at, path = name.partition("@")
    return (int(index), path) if at and index.isdecimal() else (None, name)
