# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the pictures of the live viewers anew, of the demo's movies and the places of its particles: make pictures."""
import json
import os
import shutil
import sys
import tempfile
import time

from empiardownloader.demo import entries, kinds, specimen
from empiardownloader.images.frames import iter_frames
from empiardownloader.images.previews import contrast, make_preview
from empiardownloader.live import Facts, FijiStreamingBackend, NapariStreamingBackend, Picks, WebStreamingBackend
from empiardownloader.tests.browsers import Chromium
from empiardownloader.tests.test_gui import screen

NUMBER, PIXEL_SIZE = entries.NUMBER, entries.PIXEL_SIZE
SHOWN = 12
BOX = 64                # pixels, of a circle around a particle


def show(backend, root):
    """What a follower sends of a run, with the particles as a picker finds them."""
    folder = os.path.join(root, NUMBER)
    with open(os.path.join(folder, kinds.TRUTH), encoding="utf-8") as stream:
        movies = json.load(stream)["movies"]
    gain = os.path.join(folder, "data", "Movies", "gain_reference.mrc")
    for place, name in enumerate(sorted(movies)[:SHOWN], start=1):
        path = os.path.join(folder, "data", "Movies", name + ".mrc")
        preview = make_preview(path, gain, iter_frames)
        common = {"source": "outputMovies", "place": place, "name": name, "remark": preview.gain}
        backend.save(preview.average[::-1], path, kind="averages", pixel_size=PIXEL_SIZE, binning=preview.binning,
                     limits=preview.limits(), flipped=True, **common)
        backend.save(preview.spectrum[::-1], path, kind="power spectra", limits=contrast(preview.spectrum),
                     takes_picks=False, movie_pixel_size=PIXEL_SIZE, **common)
        fit = {"defocus_u": movies[name]["defocus_u"], "defocus_v": movies[name]["defocus_v"],
               "angle": movies[name]["defocus_angle"], "voltage": specimen.VOLTAGE, "cs": specimen.CS,
               "contrast": specimen.AMPLITUDE_CONTRAST}
        backend.save(Facts({"ctf": fit}), path, name=name, source="a program")
        points = [(x, y) for x, y, *_ in movies[name]["particles"]]
        backend.save(Picks(points, box=BOX), path, name=name, source="a picker", pixel_size=PIXEL_SIZE)
    backend.note(title="Demo 000002_EmpiarDownloader", state="running")


def show_page(root, target):
    """In Chromium on a desk and on a phone."""
    with WebStreamingBackend(patience=float("inf")) as backend:
        show(backend, root)
        backend.note(head=[["Run", "EMPIAR-%s movies" % NUMBER], ["Entry", "EMPIAR-" + NUMBER],
                           ["Downloaded", "%d of 24 movies" % SHOWN], ["Size", "1.9 of 3.8 GB"],
                           ["Rate", "5.8 MB/s"], ["Time left", "about 5 min 30 s"], ["Disk", "310.0 GB free"]])
        backend.wait(120)
        for name, size in (("live_browser", {"width": 1280, "height": 860}),
                           ("live_phone", {"width": 390, "height": 844, "scale": 1, "is_phone": True})):
            with Chromium() as browser:
                browser.size(**size)
                browser.open(backend.places()[0].split()[1])
                browser.wait('$("of").textContent', "of %d" % SHOWN)
                time.sleep(3)
                browser.picture(os.path.join(target, name + ".png"))


def main():
    target = os.path.dirname(os.path.abspath(__file__))
    root, shots = tempfile.mkdtemp(prefix="empiar-pictures-"), tempfile.mkdtemp(prefix="empiar-pictures-")
    try:
        entries.build(root)
        with screen() as display:
            os.environ["DISPLAY"] = display
            for kind, name in ((NapariStreamingBackend, "live_napari"), (FijiStreamingBackend, "live_imagej")):
                with kind(patience=float("inf")) as backend:
                    show(backend, root)
                    if not backend.wait(120):
                        sys.exit("%s did not show all: %s" % (name, backend.tracker.lost()))
                    time.sleep(2)       # until the windows are drawn
                    backend.snapshot(shots)
                    shutil.copy(os.path.join(shots, "window.png"), os.path.join(target, name + ".png"))
        show_page(root, target)
    finally:
        shutil.rmtree(root)
        shutil.rmtree(shots)


if __name__ == "__main__":
    main()
