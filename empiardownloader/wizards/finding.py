# SPDX-License-Identifier: GPL-3.0-or-later
"""What the window *Find an entry* asks, and what it says, without its widgets."""
import dataclasses
import io
import re
from typing import NamedTuple, Optional, Tuple

from PIL import Image, UnidentifiedImageError

from ..archive.api import fetch_entry_json, fetch_picture
from ..archive.entry import Entry, parse_entry, parse_entry_id
from ..archive.errors import ArchiveError, EntryError
from ..archive.kinds import KINDS
from ..archive.names import page_of
from ..archive.stopping import StopToken
from ..catalogue.codes import entry_number, is_code
from ..catalogue.elsewhere import by_ebi_search
from ..catalogue.facts import METHODS, EntryFacts, from_record
from ..catalogue.search import COURSE_BYTES, COURSE_RESOLUTION, RELEVANCE, SIZE, Found, Query, search
from ..catalogue.store import kept
from ..constants import EMPIAR_API_URL, EMPIAR_PICTURE_URL
from ..units import format_bytes, shortened
from ..values import angstrom, pixel_sizes, size, years

MOST_ROWS = 300             # of the list; more words bring fewer
MOST_PIXELS = 4 << 20       # of an entry's picture
LETTERS = 3000              # of a title or a sample that are shown
# The names of the command's options, as the window calls them.
FIELDS = {"--kind": "Image kind", "--format": "Format", "--max-size": "Size up to", "--resolution": "Resolution",
          "--method": "Method", "--microscope": "Microscope", "--pixel-size": "Pixel size", "--year": "Year",
          "--course": "For a course"}
KIND_NAMES = tuple(kind.name for kind in KINDS)
FORMATS = ("MRC", "TIFF", "EER", "MRCS", "DM4")
METHOD_NAMES = tuple(METHODS.values())
COURSE_HELP = "Small and complete: movies of up to %d GB whose size is known, and a map of %g Å or better to " \
              "compare with." % (COURSE_BYTES // 10 ** 9, COURSE_RESOLUTION)


class Answer(NamedTuple):
    """What the list of entries on this machine says."""
    found: Found
    entries: int                # that it has
    age: Optional[float]        # seconds; None where it was never fetched to the end


class Record(NamedTuple):
    """What the archive itself says of an entry."""
    entry: Entry
    facts: EntryFacts


def makeQuery(words, values, sort="", reverse=False):
    """ ``values``: the filters' texts by the command's option names, '' for any,
    and whether "--course" is ticked. Raises ValueError, in words. """
    read = {"--max-size": size, "--resolution": angstrom, "--pixel-size": pixel_sizes, "--year": years}
    given = {}
    for option, text in values.items():
        if option != "--course" and text.strip():
            try:
                given[option] = read.get(option, str.strip)(text)
            except Exception as error:
                raise ValueError("%s: %s" % (FIELDS[option], error)) from error
    course = bool(values.get("--course"))
    defaults = Query()
    return Query(
        words=words, kind=given.get("--kind", ""), data_format=given.get("--format", ""),
        max_size=given.get("--max-size"), resolution=given.get("--resolution"), method=given.get("--method", ""),
        microscope=given.get("--microscope", ""), pixel_size=given.get("--pixel-size", defaults.pixel_size),
        years=given.get("--year", defaults.years), course=course,
        sort=sort or (SIZE if course and not words.strip() else RELEVANCE), reverse=reverse, limit=MOST_ROWS)


def findHere(query, addresses):
    """ In the list of entries on this machine -> Answer. Raises DiskError. """
    with kept(addresses) as store:
        if store is None:
            return Answer(Found([], 0, ""), 0, None)
        entries = store.count()
        return Answer(search(store, query) if entries else Found([], 0, ""), entries, store.age)


def findElsewhere(query, found, addresses, stopped):
    """ Where this machine's list has no answer: the archive itself for a
    number or a code, else EBI Search -> Found. Raises ArchiveError, Stopped. """
    stop = StopToken(stopped)
    if namesOneEntry(query.words):
        record = askRecord(entry_number(query.words, addresses, stop), addresses, stopped)
        return Found([record.facts], 1, "The list of entries here does not have it: this is what EMPIAR tells now.")
    with kept(addresses) as store:
        return by_ebi_search(store, query, found, addresses, stop) if store else found


def namesOneEntry(words):
    """ Whether it is an entry's number or address, or a code that stands for one. """
    try:
        return is_code(words) or bool(parse_entry_id(words))
    except ArchiveError:
        return False


def askRecord(number, addresses, stopped):
    """ What the archive says of an entry now -> Record. Raises ArchiveError, Stopped. """
    content = fetch_entry_json(addresses[EMPIAR_API_URL], number, StopToken(stopped))
    return Record(parse_entry(number, content), from_record(int(number), content))


def askPicture(number, addresses, stopped):
    """ The entry's own picture, None where it has none -> PIL image. Raises ArchiveError, Stopped. """
    content = fetch_picture(addresses[EMPIAR_PICTURE_URL], number, StopToken(stopped))
    try:
        if not content:
            return None
        picture = Image.open(io.BytesIO(content))
        if picture.width * picture.height > MOST_PIXELS:
            raise EntryError("The picture of EMPIAR-%s is too large." % number)
        return picture.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EntryError("The picture of EMPIAR-%s cannot be read (%s)." % (number, error)) from error


def askImage(number, imageSet, pattern, transport, addresses, job):
    """ The first image of an image set, as a function that draws it in a size, and what it is.
    Raises ArchiveError, Stopped. """
    from ..download.preview import preview
    return _drawn(preview(number, imageSet, pattern, transport=transport, stopped=job.stopped, where=addresses))


def askFile(number, path, transport, addresses, job):
    """ One file of an entry, a gain reference say, as askImage has it. Raises ArchiveError, Stopped. """
    from ..download.preview import preview_file
    return _drawn(preview_file(number, path, transport=transport, stopped=job.stopped, where=addresses))


def _drawn(shown):
    from ..images.picture import picture_of
    caption = shown.describe().replace(shown.path, shortened(shown.path, 20, 37), 1)
    return (lambda side: picture_of(shown.preview, shown.pixel_size, side)), caption


def newer(facts, record):
    """ What the archive says now, with what only the list of entries knows, from EMDB. """
    return dataclasses.replace(
        record, sample=facts.sample, resolution=facts.resolution, method=facts.method, microscope=facts.microscope,
        emdb=tuple(dict.fromkeys([*record.emdb, *facts.emdb])), pdb=tuple(dict.fromkeys([*record.pdb, *facts.pdb])))


def rowOf(facts):
    """ (entry, title, size, resolution, what it holds, released) """
    formats = "/".join(facts.formats[:2])
    return (str(facts.number), facts.title[:200] or "(no title)",
            "" if facts.size_bytes is None else format_bytes(facts.size_bytes),
            "" if facts.resolution is None else "%.2f Å" % facts.resolution,
            ", ".join(facts.kinds[:3]) + (" (%s)" % formats if formats else ""), facts.released)


def setRowOf(number, imageSet):
    """ (no., name, kind, format, images, frames, pixel size, size) of an image set """
    pixels = "%d x %d" % (imageSet.width, imageSet.height) if imageSet.width and imageSet.height else ""
    texts = (number, imageSet.name, imageSet.kind, imageSet.data_format, imageSet.images, imageSet.frames,
             imageSet.pixel_size and "%g" % imageSet.pixel_size, pixels)
    return cells(texts)


def cells(texts):
    """ Of a row of a list; None is what nobody tells. """
    return tuple("" if text is None else str(text)[:200] for text in texts)


def linesOf(facts) -> Tuple[Tuple[str, str], ...]:
    """ (label, text) of what is known about an entry. """
    authors = ", ".join(facts.authors[:12]) + (" and %d more" % (len(facts.authors) - 12) if len(
        facts.authors) > 12 else "")
    # EMPIAR calls an experiment EMDB where there are maps of it.
    experiment = "" if facts.experiment.upper() == "EMDB" else facts.experiment
    sample = "; ".join(part for part in facts.sample.split("; ") if part.lower() != facts.title.lower())
    told = (("Authors", authors), ("Size", facts.size_bytes and format_bytes(facts.size_bytes)),
            ("Resolution", facts.resolution and "%g Å" % facts.resolution),
            ("Method", ", ".join(filter(None, [facts.method, experiment]))), ("Microscope", facts.microscope),
            ("EMDB", ", ".join(facts.emdb)), ("PDB", ", ".join(facts.pdb)), ("Sample", sample),
            ("Released", facts.released), ("DOI", facts.doi),
            ("Page", page_of(facts.number)))
    return tuple((label, str(text)[:LETTERS]) for label, text in told if text)


def counted(answer, shown):
    """ 'How many of how many', in the window's words. """
    found = answer.found
    if not answer.entries:
        return ""
    if found.total > shown:
        return "%d of %d shown: add words to narrow down." % (shown, found.total)
    return "%d of %d entries" % (found.total, answer.entries)


def ageOf(answer):
    if answer.age is None:
        return "The list of entries is not complete." if answer.entries else ""
    days = int(answer.age // 86400)
    return "List of entries: updated %s" % ("today" if not days else "%d day%s ago" % (days, "" if days == 1 else "s"))


def inFields(text):
    """ A sentence about the command's options, with the names of the window's fields. """
    return re.sub("--[a-z-]+", lambda found: '"%s"' % FIELDS.get(found.group(), found.group()), text)
