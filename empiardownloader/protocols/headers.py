# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in every format that Scipion opens: Gatan's files go through its own reader."""
from pwem.emlib.image import ImageHandler

from ..images.frames import iter_frames
from ..images.header import BadImageError, Header, is_gatan, read_header


def readMovieHeader(path):
    """ Size and frames of an image on disk, whatever format scipion-em opens.
    Raises BadImageError. """
    if not is_gatan(path):
        return read_header(path)
    try:
        # scipion-em gives a DM file's array shape as it is, which is (frames, height, width) or (height, width).
        shape = ImageHandler.getDimensions(path)
    except Exception as error:    # whatever the reader stumbles over, the file is not readable
        raise BadImageError("scipion-em cannot read it") from error
    sizes = [size for size in shape if size != 1]
    if len(sizes) == 3:
        return Header(sizes[2], sizes[1], sizes[0])
    if len(sizes) == 2:
        return Header(sizes[1], sizes[0], 1)
    raise BadImageError("scipion-em finds no image in it")


def iterFrames(path):
    """ The frames of a movie one by one, arrays (height, width), the first row
    at the bottom; a Gatan file is read as a whole, and its first row is the
    uppermost one, as scipion-em-relion says of Gatan's gain references. Raises BadImageError, OSError. """
    if not is_gatan(path):
        return iter_frames(path)
    try:
        # Not in all versions of scipion-em.
        from pwem.emlib.image.image_readers import Dm4ImageReader
        data = Dm4ImageReader.open(path)
        return iter(data.reshape((-1, *data.shape[-2:]))[:, ::-1])
    except Exception as error:    # whatever the reader stumbles over, the file is not readable
        raise BadImageError("scipion-em cannot read %s" % path) from error
