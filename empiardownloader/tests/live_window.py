# SPDX-License-Identifier: GPL-3.0-or-later
"""A viewer without windows, in place of napari's or ImageJ's: the real sockets and stacks, and faults by script.

Started as the interpreter of a viewer: ``live_window.py -B FOLDER``, FOLDER being that of the real one. The variable
EMPIAR_TEST_WINDOW holds JSON: 'start' (seconds until it is ready), 'delay' (seconds an image takes), 'die_after' (so
many images, with 'code' and last 'words'), 'forget' (so many images, then it connects anew).
"""
import json
import os
import sys
import threading
import time
import zlib


def main():
    sys.path.insert(0, sys.argv[2])
    import live_link
    import live_model
    script = json.loads(os.environ.get("EMPIAR_TEST_WINDOW", "{}"))
    request = json.loads(sys.stdin.buffer.readline().decode("ascii"))
    ending = threading.Event()

    def watch():
        if not sys.stdin.buffer.readline():
            live_link.remove_all(request["blocks"], request["left_behind"])
        ending.set()

    make = live_link.LINKS[request["viewer"]]
    link = make(request["addresses"], request["token"], request["key"])
    threading.Thread(target=watch, daemon=True).start()
    time.sleep(script.get("start", 0))
    link.answer(type="hello")
    model, taken, forget, order = live_model.Model(request["title"]), 0, script.get("forget", 0), []
    while not ending.is_set():
        messages = link.messages(8)
        for message, parts in messages:
            for image in message.get("images", ()):
                if forget:
                    forget -= 1
                    if not forget:
                        # As if the connection had been lost with what was on it.
                        link = make(request["addresses"], request["token"], request["key"])
                    continue
                time.sleep(script.get("delay", 0))
                if taken == script.get("die_after", -1):
                    sys.stderr.write(script.get("words", ""))
                    sys.stderr.flush()
                    os._exit(script.get("code", 1))
                taken += 1
                ack = {"type": "ack", "image_id": image["image_id"], "status": "repeated", "error": ""}
                if link.is_new(image):
                    try:
                        model.take(image, link.array(image, parts))
                        ack["status"] = "shown"
                        order.append(image["display"]["name"])
                    except live_link.ImageError as error:
                        ack.update(status="failed", error=str(error))
                link.answer(**ack)
            if "forget" in message:
                model.forget(message["forget"])
            if "snapshot" in message:
                link.answer(type="snapshot", found={
                    "order": order, "points": model.points, "title": message.get("title", model.title), "stacks": [
                        {"name": model.name_of(stack), "kind": stack.kind, "source": stack.source, "pictures": [
                            [picture.name, picture.remark, zlib.crc32(stack.pixels(picture).tobytes())]
                            for picture in stack.pictures]}
                        for stack in model.stacks.values()]})
        link.answered()
        if not messages:
            time.sleep(0.01)


if __name__ == "__main__":
    main()
