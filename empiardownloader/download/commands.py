# SPDX-License-Identifier: GPL-3.0-or-later
"""empiar plan and empiar preview: what a download would bring, before it begins."""
import argparse
import json
import os
import threading
from typing import List, Optional

from ..archive.remote import AUTOMATIC
from ..archive.remote.transports import CHOICES
from ..command import EXIT_ERROR, cannot_fetch, lacking, run, say
from ..transfer.pool import MAX_CONNECTIONS
from ..values import count, size
from .plan import plan

VIEW = "'scipion-em-empiardownloader[view]'"


def folder(text: str) -> str:
    if not text:
        msg = "which folder?"
        raise argparse.ArgumentTypeError(msg)
    place = os.path.dirname(os.path.abspath(text))
    if not os.path.isdir(place) or not os.access(place, os.W_OK):
        msg = "a file in a folder that is there and takes files, which %s is not" % place
        raise argparse.ArgumentTypeError(msg)
    return text


def choose_images(parser: argparse.ArgumentParser) -> None:
    """The options that say which images of which entry."""
    parser.add_argument("entry", help="its number, like 10200, the address of its page, or an EMDB or PDB code")
    parser.add_argument("--image-set", default="", metavar="SET",
                        help="number or name (the first one with movies, else with tilt series, else the first)")
    parser.add_argument("--pattern", default="", help="only images whose name, or end of path, matches")
    parser.add_argument("--transport", type=_transport, choices=CHOICES, default=AUTOMATIC)


def _transport(text: str) -> str:
    return text.lower() if text.lower() == AUTOMATIC else text.upper()


def main_plan(arguments: Optional[List[str]] = None, program: str = "empiar plan") -> int:
    parser = argparse.ArgumentParser(
        prog=program, description="What a download would bring: files, bytes, time at the rate measured now, room on "
                                  "the disk. A few megabytes are fetched to measure the rate, and nothing is kept.")
    choose_images(parser)
    parser.add_argument("--images", type=count, default=1, metavar="N", help="how many images, or tilt series (1)")
    parser.add_argument("--all", action="store_true", help="all of the image set")
    parser.add_argument("--to", type=folder, default=".", metavar="FOLDER",
                        help="where the files would go (this folder)")
    parser.add_argument("--shared", default="", metavar="FOLDER", help="as of fetch: what is there does not come")
    parser.add_argument("--connections", type=int, choices=range(1, MAX_CONNECTIONS + 1), default=4,
                        metavar="1..%d" % MAX_CONNECTIONS, help="at a time (4)")
    parser.add_argument("--no-rate", action="store_true", help="without measuring the rate")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    options = parser.parse_args(arguments)
    return run(lambda stopped: _plan(options, stopped), "Stopped.")


def _plan(options: argparse.Namespace, stopped: threading.Event) -> int:
    told = plan(options.entry, None if options.all else options.images, options.image_set, options.pattern, options.to,
                options.transport, options.connections, stopped, not options.no_rate, options.shared)
    print(json.dumps(told.as_data()) if options.json else "\n".join(told.as_lines()))
    return 0 if told.fits else EXIT_ERROR


def main_preview(arguments: Optional[List[str]] = None, program: str = "empiar preview") -> int:
    parser = argparse.ArgumentParser(
        prog=program, description="One image of an entry as a picture: the average of as many frames as the budget "
                                  "allows, beside its power spectrum.")
    choose_images(parser)
    parser.add_argument("--to", type=_picture, required=True, metavar="FILE.png", help="the picture")
    parser.add_argument("--budget", type=size, default="16MB", metavar="SIZE",
                        help="how much may be fetched (16MB)")
    parser.add_argument("--no-gain", action="store_true", help="without the gain reference")
    parser.add_argument("--json", action="store_true", help="tell what was used as one JSON object")
    options = parser.parse_args(arguments)
    try:
        from ..images import picture  # noqa: F401 - whether numpy, tifffile, mrcfile and Pillow are here
    except ModuleNotFoundError as missing:
        say(cannot_fetch(missing) if missing.name == "requests" else lacking(missing, VIEW))
        return EXIT_ERROR
    return run(lambda stopped: _preview(options, stopped), "Stopped.")


def _preview(options: argparse.Namespace, stopped: threading.Event) -> int:
    from ..images.picture import picture_of
    from .preview import preview
    shown = preview(options.entry, options.image_set, options.pattern, options.budget, not options.no_gain,
                    options.transport, stopped)
    path = os.path.abspath(options.to)
    picture_of(shown.preview, shown.pixel_size).save(path, "PNG")
    if options.json:
        print(json.dumps({"path": path, "image": shown.path, "width": shown.width, "height": shown.height,
                          "rows_used": shown.rows_used, "frames_used": shown.frames_used, "frames": shown.frames,
                          "bytes_received": shown.bytes_received, "gain": shown.preview.gain or None}))
        return 0
    print(shown.describe())
    print(path)
    return 0


def _picture(text: str) -> str:
    if not text.lower().endswith(".png"):
        msg = "a file whose name ends with .png, not %s" % text
        raise argparse.ArgumentTypeError(msg)
    place = os.path.dirname(os.path.abspath(text))
    if not os.path.isdir(place) or not os.access(place, os.W_OK):
        msg = "a file in a folder that is there and takes files, which %s is not" % place
        raise argparse.ArgumentTypeError(msg)
    return text
