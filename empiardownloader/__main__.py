# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``empiar``, or python -m empiardownloader: entries of EMPIAR from a terminal."""
import argparse
import importlib
import json
import sys
import threading
from types import ModuleType
from typing import Callable, Dict, List, Optional, Tuple

from .command import EXIT_ERROR, EXIT_STOPPED, cannot_fetch, run, say

PROGRAM = "empiar"


def main(arguments: Optional[List[str]] = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in WORDS:
        try:
            return WORDS[words[0]][0](words[1:])
        except KeyboardInterrupt:
            # While it was still being loaded; after that command.run sees to it.
            return EXIT_STOPPED
    parser = _parser()
    if words and words[0] not in ("-h", "--help"):
        parser.error("there is no %r: choose one of %s" % (words[0], ", ".join(WORDS)))
    parser.print_help()
    return 0


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join("  %-10s %s" % (name, text) for name, (_, text) in WORDS.items())
    parser = argparse.ArgumentParser(
        prog=PROGRAM, usage="%s WORD ... (%s WORD --help tells more)" % (PROGRAM, PROGRAM),
        description="Entries of EMPIAR, the archive of raw cryo-EM images.\n\n" + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("word", choices=list(WORDS), metavar="WORD", help="one of the words above")
    return parser


def _show(words: List[str]) -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM + " show", description="What an entry is, and what it holds.")
    parser.add_argument("entry", help="its number, like 10200, the address of its page, or an EMDB or PDB code")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    options = parser.parse_args(words)
    if _loaded(".download.fetch") is None:
        return EXIT_ERROR
    return run(lambda stopped: _describe(options.entry, options.json, stopped))


def _describe(entry_id: str, as_json: bool, stopped: threading.Event) -> int:
    from .archive import describe
    from .catalogue.command import known
    from .download.fetch import about
    found, workflow, problem = about(entry_id, stopped)
    catalogued = known(int(found.entry.number))
    print(json.dumps(describe.as_data(found, workflow, catalogued)) if as_json else "\n".join(
        describe.as_lines(found, workflow, problem, catalogued)))
    return 0


def _cite(words: List[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=PROGRAM + " cite", description="How to cite an entry: the data, its papers and maps, the archive, and the "
                                            "licence.")
    parser.add_argument("entry", help="its number, like 10200, the address of its page, or an EMDB or PDB code")
    options = parser.parse_args(words)
    if _loaded(".download.fetch") is None:
        return EXIT_ERROR
    return run(lambda stopped: _tell_citation(options.entry, stopped))


def _tell_citation(entry_id: str, stopped: threading.Event) -> int:
    from .archive.api import fetch_entry_json
    from .archive.citing import how_to_cite
    from .archive.entry import RELEASED, parse_entry
    from .archive.errors import EntryError
    from .archive.stopping import StopToken
    from .catalogue.codes import entry_number
    from .catalogue.command import known
    from .constants import EMPIAR_API_URL, addresses
    stop = StopToken(stopped)
    number = entry_number(entry_id, addresses(), stop)
    record = fetch_entry_json(addresses()[EMPIAR_API_URL], number, stop)
    try:
        entry = parse_entry(number, record)
    except EntryError as error:
        # Its images cannot be had, or not yet; a paper may name it all the same.
        say(str(error))
        entry = parse_entry(number, dict(record, status=RELEASED))
    print("\n".join(how_to_cite(entry, known(int(entry.number)).get("emdb") or ())))
    return 0


def _clean(words: List[str]) -> int:
    from .download.clean import main as clean
    return clean(words, PROGRAM + " clean")


def _fetch(words: List[str]) -> int:
    from .download.__main__ import main as fetch
    return fetch(words, PROGRAM + " fetch")


def _follow(words: List[str]) -> int:
    from .follow.__main__ import main as follow
    return follow(words, PROGRAM + " follow")


def _live(words: List[str]) -> int:
    from .live.__main__ import main as live
    return live(words, PROGRAM + " live")


def _search(words: List[str]) -> int:
    from .catalogue.command import main as search
    return search(words, PROGRAM + " search")


def _plan(words: List[str]) -> int:
    commands = _loaded(".download.commands")
    return commands.main_plan(words, PROGRAM + " plan") if commands else EXIT_ERROR


def _preview(words: List[str]) -> int:
    commands = _loaded(".download.commands")
    return commands.main_preview(words, PROGRAM + " preview") if commands else EXIT_ERROR


def _loaded(module: str) -> Optional[ModuleType]:
    """A module that makes connections; None, after a sentence, where their library is not here."""
    try:
        return importlib.import_module(module, __package__)
    except ModuleNotFoundError as missing:
        say(cannot_fetch(missing))
        return None


# Options are those that a word's own help names, so that they never are of another version.
COMPLETION = """\
_empiar() {
  local current=${COMP_WORDS[COMP_CWORD]} word=${COMP_WORDS[1]}
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "%s" -- "$current"))
  elif [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" "$word" --help 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u)" \\
                 -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}
complete -F _empiar empiar"""


def _completion(words: List[str]) -> int:
    argparse.ArgumentParser(
        prog=PROGRAM + " completion", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="What makes the tab key complete words and options. In bash, for good:\n\n"
                    "  empiar completion >> ~/.bash_completion\n\nIn zsh, in ~/.zshrc:\n\n"
                    "  autoload -U bashcompinit && bashcompinit && source <(empiar completion)").parse_args(words)
    print(COMPLETION % " ".join(WORDS))
    return 0


WORDS: Dict[str, Tuple[Callable[[List[str]], int], str]] = {
    "search": (_search, "entries by words, codes and what they hold"),
    "show": (_show, "what an entry is, and what it holds"),
    "plan": (_plan, "what a download would bring, how long it takes, whether it fits"),
    "preview": (_preview, "one image of an entry as a picture, without downloading it"),
    "fetch": (_fetch, "the first images of an entry, and what belongs to them, into a folder"),
    "cite": (_cite, "how to cite an entry, as text to copy"),
    "clean": (_clean, "what is in a shared download folder, which runs use it, and what can be deleted"),
    "follow": (_follow, "what happens in a Scipion project, line by line"),
    "live": (_live, "what arrives in a Scipion project, in napari, ImageJ or a browser"),
    "completion": (_completion, "what makes the tab key complete these words and their options")}


if __name__ == "__main__":
    sys.exit(main())
