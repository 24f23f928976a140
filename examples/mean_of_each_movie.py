# SPDX-License-Identifier: GPL-3.0-or-later
"""Open each image of a run as it arrives and compute on it: python mean_of_each_movie.py PROJECT RUN

It ends with the run. Needs numpy, mrcfile and, for TIFF, tifffile.
"""
import sys

from empiardownloader.follow import EventType, FollowError, ImageChannel, RemoteNodeWalker

project, run = sys.argv[1:] if len(sys.argv) == 3 else sys.exit(__doc__)
try:
    for event in RemoteNodeWalker(project, run).walk_events():
        if event.type is EventType.NEW_DATA:
            channel = ImageChannel(event.node)
            for item in event.data.data:
                image = channel.read(item)
                print("%s: %s, mean %.3f" % (item.name, "x".join(map(str, image.shape)), image.mean()), flush=True)
        elif event.type is EventType.END_SCAN:
            break
except FollowError as error:
    sys.exit(str(error))
