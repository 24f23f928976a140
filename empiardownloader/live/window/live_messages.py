# SPDX-License-Identifier: GPL-3.0-or-later
"""What sender and viewer tell each other: the names of messages and answers. Both import them from here.

A message is a JSON object with ``type``. BATCH has ``images``, each with image_id, data_type, path, display and where
its pixels are: shm_name (in shared memory) or part (of the message). NOTE is about the run as a whole and has any of
title, state, head (pairs of words: what is known of it), said (a sentence for the user), refused (what was wanted of an
image and is not to be had), frames (whether they can be asked for), forget (a source), remove (source and id of an
image), snapshot (a folder). PING has nothing.
"""
TYPE = "type"
BATCH, NOTE, PING = "batch", "note", "ping"
# Of the viewer: it is there, and how it is reached (places); what became of an image (image_id, status, error); what it
# shows (found); its user wants the frames of a movie, or all its pixels (path, name, source, what). CONNECTED_ANEW: the
# sender's own link says it, see links.py.
HELLO, ACK, SNAPSHOT, WANTED, CONNECTED_ANEW = "hello", "ack", "snapshot", "wanted", "again"
# What became of an image.
SHOWN, REPEATED, FAILED = "shown", "repeated", "failed"
IMAGE, SHAPES, FACTS = "image", "shapes", "facts"      # data_type
FRAMES, FULL_SIZE = "frames", "full size"              # what its user wants of an image
# What is looked at by itself, in this order; images that say nothing are of the first.
SECTIONS = ("images", "tilt series", "particles", "classes", "volumes")
SHARED_MEMORY = "/dev/shm"      # where POSIX shared memory lies on Linux
LARGEST = 1e30                  # numbers that windows still can reckon with
