# SPDX-License-Identifier: GPL-3.0-or-later
"""What sender and viewer tell each other: the names of messages and answers. Both import them from here.

A message is a JSON object with ``type``. BATCH has ``images``, each with image_id, data_type, path, display and where
its pixels are: shm_name (in shared memory) or part (of the message). NOTE is about the run as a whole and has any of
title, state, frames (whether they can be asked for), forget (a source), snapshot (a folder). PING has nothing.
"""
TYPE = "type"
BATCH, NOTE, PING = "batch", "note", "ping"
# Of the viewer: it is there; what became of an image (image_id, status, error); what it shows (found); its user wants
# the frames of a movie (path, name, source). CONNECTED_ANEW: the sender's own link says it, see links.py.
HELLO, ACK, SNAPSHOT, WANTED, CONNECTED_ANEW = "hello", "ack", "snapshot", "wanted", "again"
# What became of an image.
SHOWN, REPEATED, FAILED = "shown", "repeated", "failed"
IMAGE, SHAPES = "image", "shapes"       # data_type
SHARED_MEMORY = "/dev/shm"      # where POSIX shared memory lies on Linux
LARGEST = 1e30                  # numbers that windows still can reckon with
