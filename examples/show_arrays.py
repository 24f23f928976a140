"""Show numpy arrays as they are computed: in napari, or in ImageJ or a browser, with "fiji" or "web" as the first word.

Needs numpy and pyzmq here, and napari where EMPIAR_NAPARI_PYTHON says; for ImageJ also JPype1, for a page tornado and
Pillow. Ends with the window, of a page by Ctrl-C.
"""
import logging
import sys

import numpy as np

from empiardownloader.live import (
    FijiStreamingBackend,
    LiveError,
    NapariStreamingBackend,
    Picks,
    WebStreamingBackend,
)

logging.basicConfig(format="%(message)s")
random = np.random.default_rng(1)
kinds = {"napari": NapariStreamingBackend, "fiji": FijiStreamingBackend, "web": WebStreamingBackend}
kind = kinds[sys.argv[1] if len(sys.argv) > 1 else "napari"]
try:
    with kind(title="Arrays of a script") as viewer:
        for line in viewer.places():
            print(line)
        for number in range(20):
            image = random.normal(10, 2, (400, 600)).cumsum(axis=0).astype("float32")
            viewer.save(image, "image_%02d.mrc" % number, kind="images", pixel_size=1.5)
        viewer.save_batch([image > image.mean(), np.abs(image)], ["mask.mrc", "amplitude.mrc"], kind="others")
        viewer.save(Picks([(100, 100), (300, 200)], box=40), "image_19.mrc")
        viewer.wait()
        print("%d of %d are shown; lost: %s" % (*viewer.tracker.progress(), viewer.tracker.lost() or "none"))
        # A second word closes the window at once.
        if len(sys.argv) < 3:
            viewer.wait_closed()
except LiveError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit(130)
