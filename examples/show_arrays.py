"""Show numpy arrays in napari (or, with "fiji" as the first word, in ImageJ) as they are computed.

Needs numpy and pyzmq here, and napari where EMPIAR_NAPARI_PYTHON says; for ImageJ also JPype1. Ends with the window.
"""
import logging
import sys

import numpy as np

from empiardownloader.live import FijiStreamingBackend, LiveError, NapariStreamingBackend, Picks

logging.basicConfig(format="%(message)s")
random = np.random.default_rng(1)
kind = FijiStreamingBackend if sys.argv[1:2] == ["fiji"] else NapariStreamingBackend
try:
    with kind(title="Arrays of a script") as viewer:
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
