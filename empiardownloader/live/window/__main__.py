# SPDX-License-Identifier: GPL-3.0-or-later
"""A viewer's process. Run by its folder's path, under whatever Python has the viewer: napari's own environment, say.

Its first line of input is a request, JSON: 'screen' ('live_napari:NapariScreen', what draws), 'link' ('subscribe',
'reply'), 'addresses' of the sender's sockets, 'token' by which the two know each other, 'title', 'blocks' (how the
sender's shared memory is called), 'left_behind' (folders of the sender), and what the screen needs. The end of the
input is the end of the sender, and of this process.
Nothing of the package above this folder is imported, unless the request has 'import_from', where the package lies.
"""
import importlib
import json
import os
import sys
import threading

import live_link
import live_loop


def main():
    request = json.loads(sys.stdin.buffer.readline().decode("ascii"))
    ending = threading.Event()
    # Sockets are opened first: windows take seconds, and no message is lost in them.
    link = live_link.LINKS[request["link"]](request["addresses"], request["token"], request["key"])
    threading.Thread(target=watch_sender, args=(request, ending), daemon=True, name="sender").start()
    sys.path += request.get("import_from", [])
    module, _, name = request["screen"].partition(":")
    screen = getattr(importlib.import_module(module), name)(request)
    live_loop.ViewerLoop(link, screen, request["title"]).run(ending)


def watch_sender(request, ending):
    line = sys.stdin.buffer.readline()
    if not line:
        # It ended without a word, killed perhaps: what it cannot remove any more is removed here.
        live_link.remove_all(request["blocks"], request["left_behind"])
    ending.set()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:      # noqa: BLE001 - the last line of its words is what the user reads
        print("%s: %s" % (type(error).__name__, " ".join(str(error).split())), file=sys.stderr, flush=True)
        os._exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    # Qt's and Java's ways to end may hang when windows were open.
    os._exit(0)
