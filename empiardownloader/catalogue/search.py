# SPDX-License-Identifier: GPL-3.0-or-later
"""Which entries a question means, the best first.

Codes (an EMPIAR number, an EMDB or PDB id) come before words. Each word has to be in an entry, under any of its names;
where it is says how much it counts: in the title, the sample, the authors, or anywhere else.
"""
import difflib
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from ..archive.errors import EntryError
from ..archive.kinds import KINDS
from ..archive.names import emdb_name
from ..values import ANY_PIXEL_SIZE, ANY_YEAR
from .facts import EMDB_ID, METHODS, PDB_ID, EntryFacts
from .store import ORDERS, Row, Store
from .words import Term, begins_within, is_within, normal, terms, tokens

RELEVANCE, SIZE = "relevance", "size"
SORTS = (RELEVANCE, *ORDERS)
TITLE, SAMPLE, AUTHORS, OTHER = 12.0, 9.0, 8.0, 1.5
BEGUN = 0.5                 # what a word counts that goes on in the entry: 'rib' in ribosome
WHOLE = 8.0                 # where the whole question is in the title as it was asked
# How near a pixel size has to be to the one asked for: depositors round it.
PIXEL_SIZE_SHARE = 0.02
# An entry for a course: students download it whole, process it within hours, and compare with the depositors' map.
COURSE_BYTES, COURSE_RESOLUTION = 100 * 10 ** 9, 4.5
MOST_LETTERS = 2000         # of a question
# Partial matches are given only if there are at most so many.
MOST_OTHERS, MOST_OTHERS_SHARE = 20, 0.01
SPELLING = 0.75             # how alike a word is that is offered in place of one that no entry has


@dataclass(frozen=True)
class Query:
    words: str = ""
    kind: str = ""
    data_format: str = ""
    min_size: Optional[int] = None              # bytes
    max_size: Optional[int] = None
    resolution: Optional[float] = None          # angstrom: this or better
    method: str = ""
    microscope: str = ""
    pixel_size: Tuple[float, float] = ANY_PIXEL_SIZE       # angstrom, from and to
    emdb: str = ""
    pdb: str = ""
    years: Tuple[int, int] = ANY_YEAR           # of the release
    course: bool = False                        # small and complete: see COURSE_BYTES
    sort: str = RELEVANCE
    reverse: bool = False       # the sort's other direction
    limit: int = 20


class Found(NamedTuple):
    entries: List[EntryFacts]
    total: int                  # before the limit
    why: str                    # a sentence where there is none
    is_loose: bool = False      # whether a word of the question is in none of them


def search(store: Store, query: Query) -> Found:
    """Raises EntryError for a kind that there is not."""
    # Ids of twelve letters are what the PDB goes over to.
    codes = _by_code(store, re.sub("pdb_0000", "", query.words[:MOST_LETTERS], flags=re.IGNORECASE))
    query = replace(query, words=codes.rest.strip())
    asked = terms(query.words) if query.words else []
    if query.words and not asked and not codes.numbers and not codes.unknown:
        return Found([], 0, "There is no word in %s." % query.words)
    found, matching = _search(store, query, asked, codes)
    if found.entries:
        return found
    if not store.count():
        return found._replace(why="The list of entries on this machine is empty: run the command once without "
                                  "--offline.")
    if codes.unknown and not asked:
        return found._replace(why="No entry here belongs to %s." % " or ".join(codes.unknown))
    if codes.numbers and asked:
        # A code is surer than a word.
        again, _ = _search(store, replace(query, words=""), [], codes)
        return again._replace(why="No entry of the code has the other words (%s):" % query.words)
    begun = terms(query.words, all_go_on=True) if asked else []
    if begun != asked:
        again, _ = _search(store, query, begun, codes)
        if again.entries:
            return again
    vocabulary = store.vocabulary() if asked else set()
    why = _why(store, query, asked, matching, vocabulary)
    # A given name, or a word spelt in one that others spell in two: what is left of the question may have an answer.
    respelt = _respelt(tokens(query.words), vocabulary)
    if respelt != tokens(query.words):
        again, _ = _search(store, query, terms(" ".join(respelt)), codes)
        if again.entries:
            return again._replace(why="%s Found as %s:" % (why, " ".join(respelt)))
    known = [term for term in asked if store.with_words([_looked_for(term)])]
    if known and len(known) < len(asked):
        again, _ = _search(store, query, known, codes)
        # 'odorant receptor' is not answered by all receptors.
        if again.entries and again.total <= max(MOST_OTHERS, MOST_OTHERS_SHARE * store.count()):
            return again._replace(why=why + " These have the other words:", is_loose=True)
    return found._replace(why=why)


def fitting(store: Store, query: Query) -> Set[int]:
    """The entries that a query's options allow, whatever its words."""
    return store.select([condition for _, condition in _filters(query)])


def _search(store: Store, query: Query, asked: List[Term], codes: "_Codes") -> Tuple[Found, int]:
    """What has all the words, or belongs to a code, and fits all options; and how many there are before the options."""
    question = normal(query.words)
    ranked: Dict[int, Tuple[float, ...]] = {} if asked else dict.fromkeys(codes.numbers, (math.inf, 0))
    has_code = bool(codes.numbers or codes.unknown)
    by_options_alone = not asked and not has_code
    allowed = fitting(store, query) if _filters(query) or by_options_alone else None
    if asked:
        for row in store.with_words([_looked_for(term) for term in asked]):
            if not has_code or row.number in codes.numbers:
                ranked[row.number] = (_score(row, asked, question), row.number)
    elif by_options_alone:
        ranked.update((number, (0.0, number)) for number in allowed or ())
    numbers = [number for number in ranked if allowed is None or number in allowed]
    if query.sort == RELEVANCE:
        numbers.sort(key=lambda number: ranked[number], reverse=not query.reverse)
    else:
        numbers = store.ordered(numbers, query.sort, query.reverse)
    return Found(store.facts(numbers[:query.limit]), len(numbers), ""), len(ranked)


class _Codes(NamedTuple):
    numbers: Set[int]           # of the entries that the codes of a question mean
    rest: str                   # the question without them
    unknown: List[str]          # codes that no entry here has


def _by_code(store: Store, words: str) -> _Codes:
    """An EMDB code is nothing but a code: its digits are no entry's number. What looks like a PDB or EMPIAR code and is
    none stays a word."""
    found: Set[int] = set()
    unknown: List[str] = []

    def emdb(match: "re.Match[str]") -> str:
        its = store.with_code(emdb_name(match.group(1)))
        found.update(its)
        unknown.extend([] if its else [emdb_name(match.group(1))])
        return " "

    def pdb(match: "re.Match[str]") -> str:
        its = set() if match.group(1).isdecimal() else store.with_code(match.group(1).upper())
        found.update(its)
        return " " if its else match.group()

    def empiar(match: "re.Match[str]") -> str:
        its = {entry.number for entry in store.facts([int(match.group(1))]) if entry.is_public}
        found.update(its)
        return " " if its else match.group()

    rest = re.sub(r"\b%s\b" % EMDB_ID, emdb, words, flags=re.IGNORECASE)
    rest = re.sub(r"(?<![A-Za-z0-9-])(?:EMPIAR[-_ ]?)?([0-9]{5,6})(?![A-Za-z0-9])", empiar, rest, flags=re.IGNORECASE)
    return _Codes(found, re.sub(PDB_ID, pdb, rest), unknown)


def _looked_for(term: Term) -> List[Tuple[str, bool]]:
    return [(name, term.goes_on and name == term.names[0]) for name in term.names]


def _score(row: Row, asked: List[Term], question: str) -> float:
    """How well an entry's words answer a question."""
    score = 0.0
    for term in asked:
        score += max(_weight(name, row, goes_on) * (1.0 if name == term.names[0] else 0.95)
                     for name, goes_on in _looked_for(term))
    if question in row.title:
        score += WHOLE
    elif question in row.sample:
        score += WHOLE / 2
    # Of two titles with the words, the one that says less else is more about them.
    score += 2.0 * len(asked) / max(len(row.title.split()), 1)
    return score + 0.5 * row.has_movies


def _weight(name: str, row: Row, goes_on: bool) -> float:
    best = 0.0
    for text, weight in ((row.title, TITLE), (row.sample, SAMPLE), (row.authors, AUTHORS), (row.other, OTHER)):
        if weight > best and is_within(name, text):
            best = weight
        elif goes_on and weight * BEGUN > best and begins_within(name, text):
            best = weight * BEGUN
    return best


# ------------------------------------------------------------ filters


def _filters(query: Query) -> List[Tuple[str, Tuple[str, Tuple[Any, ...]]]]:
    """What a query asks of the columns: an option's name, and its condition as SQL and values."""
    found: List[Tuple[str, Tuple[str, Tuple[Any, ...]]]] = []

    def ask(option: str, text: str, *values: Any) -> None:
        found.append((option, (text, values)))

    its_sets = "number IN (SELECT number FROM sets WHERE %s)"
    kind = _kind(query.kind)
    low, high = query.pixel_size
    by_set: List[Tuple[str, Any]] = [("kind = ?", kind)] if kind else []
    by_set += [("format LIKE ?", "%" + _plain(query.data_format) + "%")] if query.data_format else []
    if query.pixel_size != ANY_PIXEL_SIZE:
        by_set.append(("pixel_size >= ?", low * (1 - PIXEL_SIZE_SHARE)))
        by_set.append(("pixel_size <= ?", high * (1 + PIXEL_SIZE_SHARE)))
    if by_set:
        # All of one image set: an entry with movies in MRC and particles in EER has no movies in EER.
        names = [name for name, value in (("--kind", kind), ("--format", query.data_format), (
            "--pixel-size", query.pixel_size != ANY_PIXEL_SIZE)) if value]
        ask(" with ".join(names), its_sets % " AND ".join(text for text, _ in by_set), *[value for _, value in by_set])
    if query.course:
        ask("--course", "size_bytes <= ? AND resolution <= ? AND %s" % (
            its_sets % "kind = 'movies' AND pixel_size IS NOT NULL AND images IS NOT NULL"),
            COURSE_BYTES, COURSE_RESOLUTION)
    if query.min_size is not None:
        ask("--min-size", "size_bytes >= ?", query.min_size)
    if query.max_size is not None:
        ask("--max-size", "size_bytes <= ?", query.max_size)
    if query.resolution is not None:
        ask("--resolution", "resolution <= ?", query.resolution)
    if query.method:
        condition, names = _method(query.method)
        ask("--method", condition, *names)
    if query.microscope:
        # 'cryoarm' is 'Cryo ARM', and 'krios' EMDB's 'TFS KRIOS' and 'FEI TITAN KRIOS'.
        ask("--microscope", "REPLACE(microscope, ' ', '') LIKE ?", "%" + "".join(tokens(query.microscope)) + "%")
    if query.years != ANY_YEAR:
        ask("--year", "substr(released, 1, 4) BETWEEN ? AND ?", *["%04d" % year for year in query.years])
    pdb_id = re.sub("^PDB[-_: ]?(0000)?", "", query.pdb.strip().upper())
    for option, code in (("--emdb", _emdb_id(query.emdb)), ("--pdb", pdb_id)):
        if code:
            ask(option, "number IN (SELECT number FROM codes WHERE code = ?)", code)
    return found


def _method(text: str) -> Tuple[str, List[str]]:
    """A condition and its values: each word, by any of its names, in EMDB's method of a map or EMPIAR's experiment
    type; for tomography also that there are tilt series."""
    parts, values = [], []
    for term in terms(text):
        names = [*term.names, *(["subtomogram averaging"] if "tomography" in term.names else [])]
        its = ["%s LIKE ?" % column for column in ("method", "experiment") for _ in names]
        values += ["% " + name + " %" for name in names] * 2
        if "tomography" in term.names:
            its.append("kinds LIKE ?")
            values.append("%|tilt series|%")
        parts.append("(%s)" % " OR ".join(its))
    return " AND ".join(parts) or "0", values


def _kind(text: str) -> str:
    """'movie', 'Movies', 'tilt-series' -> the kind's name; '' for ''. Raises EntryError."""
    words = " ".join(text.lower().replace("-", " ").split())
    for kind in KINDS:
        if words in (kind.name, kind.name.rstrip("s"), kind.one) or (words == "averages" and kind.name.endswith(words)):
            return kind.name
    if words:
        msg = 'There is no kind "%s": choose one of %s.' % (text, ", ".join(kind.name for kind in KINDS))
        raise EntryError(msg)
    return ""


def _plain(text: str) -> str:
    """As it stands within LIKE: '%' and '_' would stand for anything."""
    return " ".join(re.sub("[%_-]", " ", text.lower()).split())


def _emdb_id(text: str) -> str:
    digits = re.sub(r"(?i)^EMDB?[-_ ]?", "", text.strip())
    return emdb_name(digits) if digits else ""


# ------------------------------------------------------------ why there is none


def _why(store: Store, query: Query, asked: List[Term], matching: int, vocabulary: Set[str]) -> str:
    if query.method and not fitting(store, Query(method=query.method)):
        return "No entry has the method %s: there are %s, and EMPIAR's types of experiments, like SBF-SEM." % (
            query.method, ", ".join(sorted(METHODS.values())))
    if matching:
        return "%d entr%s the words, but none of them fits %s%s." % (
            matching, "y has" if matching == 1 else "ies have", " and ".join(name for name, _ in _filters(query)),
            _without_one(store, query))
    for term in asked:
        if not store.with_words([_looked_for(term)]):
            near = difflib.get_close_matches(term.names[0], vocabulary, 2, SPELLING)
            return 'No entry has "%s"%s' % (_as_typed(query.words, term), ": is it %s?" % " or ".join(
                '"%s"' % word for word in near) if near else " in its title, sample, authors or image sets.")
    if len(asked) > 1:
        counted = [(len(store.with_words([_looked_for(each) for each in asked if each != term])),
                    _as_typed(query.words, term))
                   for term in asked]
        most, word = max(counted)
        return "No entry has all of these words%s." % (': without "%s" there %s %d' % (
            word, "is" if most == 1 else "are", most) if most else "")
    return "No entry fits %s%s." % (" and ".join(name for name, _ in _filters(query)) or "that",
                                    _without_one(store, query))


def _without_one(store: Store, query: Query) -> str:
    """Which of several filters leaves nothing, as the rest of a sentence."""
    filters = _filters(query)
    if len(filters) < 2:
        return ""
    numbers = {row.number for row in store.with_words([_looked_for(term) for term in terms(query.words)])} \
        if query.words.strip() else None
    counted = []
    for option, _ in filters:
        left = store.select([condition for name, condition in filters if name != option])
        counted.append((len(left if numbers is None else left & numbers), option))
    most, option = max(counted)
    return ": without %s there %s %d" % (option, "is" if most == 1 else "are", most) if most else ""


def _as_typed(words: str, term: Term) -> str:
    """A term as it stands in the question: 'Sjors' for 'sjor'."""
    for typed in words.split():
        if " %s " % term.names[0] in normal(typed):
            return typed.strip(".,;:()")
    return term.names[0]


def _respelt(asked: List[str], known: Set[str]) -> List[str]:
    """The tokens of a question; those that no entry has are joined with the next one, or taken apart, where entries
    have that: 'super complex' -> 'supercomplex', 'betagalactosidase' -> 'beta galactosidase'."""
    left, found = list(asked), []
    while left:
        token = left.pop(0)
        if left and (token not in known or left[0] not in known) and token + left[0] in known:
            found.append(token + left.pop(0))
        elif token in known:
            found.append(token)
        else:
            parts = [[token[:at], token[at:]] for at in range(3, len(token) - 2)
                     if token[:at] in known and token[at:] in known]
            found += max(parts, key=lambda pair: min(map(len, pair))) if parts else [token]
    return found
