# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the images that a walker gives by reference, of this machine or of another one."""
import os
from typing import Any, Iterator, Optional, Tuple

import numpy as np

from ..follow.images import read_image
from ..follow.process import split_host
from ..images.frames import iter_frames
from ..images.gain import NO_GAIN, Correction
from ..images.header import BadImageError, is_gatan
from ..images.previews import Preview, average_frames, average_of, load_preview, make_preview, preview_of


def preview(path: Optional[str], index: int, gain: Optional[str], folder: Optional[str], ssh: Any = "ssh") -> Preview:
    """The preview of an image, gain-corrected where it can be; kept in ``folder`` where that is given.

    ``index``: its place in a stack, from 1; 0: all of the file. Raises OSError, BadImageError, FollowError.
    """
    reader = _reader(ssh)
    if index or not path:
        return preview_of(average_of([read_image(path, index, ssh)], os.path.basename(path or "")))
    if folder is None or split_host(path)[0]:
        return make_preview(path, gain, reader)
    return load_preview(path, folder, gain, reader)


def whole(path: str, index: int, gain: Optional[str], ssh: Any = "ssh") -> Tuple[np.ndarray, str]:
    """An image with all its pixels, float32 (height, width): of a movie its average, and what has become of the gain.
    Raises as above."""
    if index:
        return np.asarray(read_image(path, index, ssh), "float32"), NO_GAIN
    reader = _reader(ssh)
    average, remark = Correction(gain, path, reader).apply(average_frames(path, reader))
    return average, remark


def frames(path: str, gain: Optional[str], ssh: Any = "ssh") -> Iterator[Tuple[np.ndarray, str]]:
    """The frames of a movie one by one, float32 (height, width), and what has become of the gain. Raises as above."""
    reader = _reader(ssh)
    correction = Correction(gain, path, reader)
    for frame in reader(path):
        yield correction.apply(np.asarray(frame, "float32"))


def _reader(ssh: Any) -> Any:
    """path -> the frames of a file, here or on another machine."""
    def read(path: str) -> Iterator[np.ndarray]:
        if split_host(path)[0]:
            data = read_image(path, 0, ssh)
            return iter(data.reshape((-1, *data.shape[-2:])))
        if os.path.exists(path) and not os.path.isfile(path):
            msg = "%s is no file" % os.path.basename(path)
            raise BadImageError(msg)
        if is_gatan(path):
            return _gatan_frames(path)
        return iter_frames(path)

    return read


def _gatan_frames(path: str) -> Iterator[np.ndarray]:
    try:
        # Scipion's own reader, where there is Scipion.
        from ..protocols.headers import iterFrames
    except ImportError as error:
        msg = "Gatan's files are read by Scipion, which is not in this environment"
        raise BadImageError(msg) from error
    return iterFrames(path)
