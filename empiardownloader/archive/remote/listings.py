# SPDX-License-Identifier: GPL-3.0-or-later
"""What servers write about a folder: lines of MLSD and LIST, pages of web servers."""
import html.parser
import re
from typing import Dict, List, Optional, Set, Tuple
from urllib.parse import unquote

# ('file', 'folder' or 'link', name, bytes)
Line = Tuple[str, str, Optional[int]]

# Between the permissions and the size stand a number, an owner and a group, some of them missing or with blanks.
_LIST_UNIX = re.compile(r"([-dl])[rwxsStT-]{9}\S*\s.*?\s(\d+)\s+"
                        r"(?:(?:[^\W\d]{3,4}\s+\d{1,2}|\d{1,2}\s+[^\W\d]{3,4})\s+(?:\d{4}|\d{1,2}:\d\d)"
                        r"|\d{4}-\d\d-\d\d \d\d:\d\d) (.+)")
_LIST_DOS = re.compile(r"\d\d-\d\d-\d{2,4}\s+\d\d:\d\d(?:AM|PM)?\s+(<DIR>|\d+)\s+(.+)", re.IGNORECASE)
# '543M', '1.2G', '12 MiB', '4096'; not the parts of a date.
_PAGE_SIZE = re.compile(r"(?<![\w.:/-])([0-9]{1,18}(?:\.[0-9]{1,9})?)\s?([KMGT]?)(?:i?B)?(?![\w.:/-])")


# What servers call the page of a folder.
LISTING_WORDS = re.compile(r"\bIndex of\b|Directory [Ll]isting|Parent Directory|Listing of", re.IGNORECASE)
# Links that lead to no file: the mail address of the server's administrator.
NO_FILES = ("mailto:", "javascript:", "tel:", "data:", "about:")
# What pages link to that are no listings.
PAGE_PARTS = (".css", ".js", ".html", ".htm", ".php", ".ico", ".png", ".svg", ".gif", ".jpg", ".woff", ".woff2", ".xml")


def parse_mlsd_line(line: str) -> Optional[Line]:
    """'type=file;size=12; a b.mrc' -> ('file', 'a b.mrc', 12)"""
    # A fact's value may hold blanks (pure-ftpd: the target of a link); the last fact ends with a semicolon.
    facts_text, separator, name = line.partition("; ")
    if not separator:
        facts_text, _, name = line.partition(" ")
    facts = dict(fact.lower().split("=", 1) for fact in facts_text.split(";") if "=" in fact)
    kind = facts.get("type", "")
    if kind == "file":
        return "file", name, _size(facts.get("size", ""))
    if kind == "dir":
        return "folder", name, None
    # RFC 3659 leaves links to the server: pyftpdlib and ProFTPD say OS.unix=slink.
    return ("link", name, None) if "link" in kind else None


def parse_list_line(line: str) -> Optional[Line]:
    """'-rw-r--r-- 1 ftp ftp 12 Nov 21 01:18 a b.mrc' -> ('file', 'a b.mrc', 12); also the DOS form"""
    match = _LIST_UNIX.fullmatch(line)
    if match:
        letter, size, name = match.groups()
        if letter == "l":
            return "link", name.split(" -> ")[0], None
        if letter == "d":
            return None if name in (".", "..") else ("folder", name, None)
        return "file", name, _size(size)
    match = _LIST_DOS.fullmatch(line)
    if match:
        size, name = match.groups()
        return ("folder", name, None) if size.upper() == "<DIR>" else ("file", name, _size(size))
    return None


def _size(text: str) -> Optional[int]:
    """'12' -> 12; what is no size any disk could have -> None"""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


class PageParser(html.parser.HTMLParser):
    """The folders and files that a server's page about ``folder`` links to (Apache, nginx, Caddy, IIS and others)."""

    def __init__(self, folder: str):
        super().__init__()
        self._folder = folder
        self.folders: Set[str] = set()
        self.files: Dict[str, Optional[int]] = {}
        self._last: Optional[str] = None        # the file whose size may follow
        self._before = ""                       # what stands before a link on its line
        self._text = ""                         # since the last tag; a page that comes in blocks cuts it anywhere
        self._in_link = False
        self._is_marked = self._begins = self._ends = False

    @property
    def is_listing(self) -> bool:
        """Whether this is a folder's page and not another one, of maintenance or a login say: it links to its parent
        folder or calls itself an index, or links to nothing that such a page is made of."""
        names = [*self.folders, *self.files]
        looks_so = bool(self.folders) or any("." in name for name in self.files)
        return self._is_marked or (looks_so and not any(name.lower().endswith(PAGE_PARTS) for name in names))

    @property
    def is_whole(self) -> bool:
        """Whether the page ends, where it has a beginning."""
        return self._ends or not self._begins

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self._take_text()
        self._begins = self._begins or tag == "html"
        if tag == "br":
            self._last, self._before = None, ""
        if tag != "a":
            return
        self._in_link, self._last = True, None
        before, self._before = self._before.rpartition("\n")[2], ""
        href = (dict(attrs).get("href") or "").partition("?")[0].partition("#")[0]
        # A way out of the folder written plainly is the page's own navigation; an encoded one is a name, to be
        # refused as such later.
        if "://" in href or href.lower().startswith(NO_FILES) or all(
                part in ("", ".", "..") for part in href.split("/")):
            above = self._folder.rstrip("/").rpartition("/")[0] + "/"
            self._is_marked = self._is_marked or ".." in href.split("/") or (href == above == "/")
            return
        name = unquote(href[2:] if href.startswith("./") else href, errors="surrogateescape")
        if href.startswith("/"):
            # IIS writes the folder as it is on its disk, in capitals or not.
            if name[:len(self._folder)].lower() != self._folder.lower() or len(name) == len(self._folder):
                above = self._folder.rstrip("/").rpartition("/")[0]
                self._is_marked = self._is_marked or name.rstrip("/").lower() in (above.lower(),
                                                                                  self._folder.rstrip("/").lower())
                return
            name = name[len(self._folder):]
        if name.endswith("/"):
            self.folders.add(name[:-1])
        else:
            # IIS tells date, time and size before the link.
            words = before.split()
            self.files[name] = _size(words[-1]) if len(words) > 2 else None
            self._last = name

    def handle_endtag(self, tag: str) -> None:
        self._take_text()
        if tag == "a":
            self._in_link = False
        elif tag == "html":
            self._ends = True
        elif tag in ("tr", "table", "pre", "ul"):
            # What stands below the table is the server's own name and version.
            self._last = None

    def handle_data(self, data: str) -> None:
        if not self._in_link:
            self._text += data

    def _take_text(self) -> None:
        text, self._text = self._text, ""
        self._is_marked = self._is_marked or LISTING_WORDS.search(text) is not None
        self._before += text
        sizes = _PAGE_SIZE.findall(text) if self._last is not None else []
        if sizes and self._last is not None:
            number, unit = sizes[-1]
            self.files[self._last] = int(float(number) * 1024 ** " KMGT".index(unit or " "))
            self._last = None
