# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the pictures of the live viewers anew, of the demo's movies and the places of its particles: make pictures."""
import json
import os
import shutil
import sys
import tempfile
import time

from empiardownloader.demo import entries, kinds
from empiardownloader.images.frames import iter_frames
from empiardownloader.images.previews import contrast, make_preview
from empiardownloader.live import FijiStreamingBackend, NapariStreamingBackend, Picks
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
                     takes_picks=False, **common)
        points = [(x, y) for x, y, *_ in movies[name]["particles"]]
        backend.save(Picks(points, box=BOX), path, name=name, source="a picker", pixel_size=PIXEL_SIZE)
    backend.note(title="Demo 000002_EmpiarDownloader", state="running")


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
    finally:
        shutil.rmtree(root)
        shutil.rmtree(shots)


if __name__ == "__main__":
    main()
