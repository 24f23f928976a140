# SPDX-License-Identifier: GPL-3.0-or-later
"""What all viewers do with the sender's messages: one loop; whatever draws is a Screen."""
import live_model
from live_messages import ACK, FAILED, FRAMES, HELLO, NOTE, REPEATED, SHOWN, SNAPSHOT, TYPE, WANTED

MOST_MESSAGES = 8       # of one turn, so that windows stay quick


class Screen:
    """Draws a model; a further viewer is one more of these. All is called by one thread, that of the windows."""

    model = None            # live_model.Model, set before ``open``
    want = None             # of the loop: call it with the stack, the picture, and what the user wants of its image

    def open(self):
        """Make the windows."""
        raise NotImplementedError

    def run(self, turn, ending):
        """Call ``turn`` every few hundredths of a second until ``ending`` (an event) is set or the user has closed the
        windows; ``turn`` tells whether there was anything to do."""
        raise NotImplementedError

    def places(self):
        """How its user reaches it, where it has no window: lines."""
        return []

    def prepare(self):
        """A turn begins: nothing has come yet."""

    def draw(self, changed, any_taken):
        """Draw the stacks that have changed, and remove those that are gone from the model.

        ``any_taken``: whether images, points or facts have come.
        """
        raise NotImplementedError

    def looked_at(self):
        """{stack: the picture that is looked at}"""
        raise NotImplementedError

    def offer_frames(self):
        """There are frames to be had: a button for them."""

    def entitle(self):
        """The title has changed; nothing, where titles are looked after all the time."""

    def snapshot(self, folder):
        """Write what is shown into a folder, as StreamingBackend.snapshot says, and tell it."""
        raise NotImplementedError

    @staticmethod
    def words_of(error):
        """An exception in words for the user."""
        return " ".join(str(error).split())[:200] or type(error).__name__


class ViewerLoop:
    """Takes images into the model, has the screen draw what changed, and answers."""

    def __init__(self, link, screen, title):
        self._link, self._screen = link, screen
        self._model = screen.model = live_model.Model(title)
        screen.want = self._want

    def run(self, ending):
        self._screen.open()
        self._link.answer(**{TYPE: HELLO}, places=self._screen.places())
        self._screen.run(self.turn, ending)

    def turn(self):
        """-> whether there was anything to do."""
        self._screen.prepare()
        changed, acks, snapshots = [], [], []
        messages = self._link.messages(MOST_MESSAGES)
        for message, parts in messages:
            if message[TYPE] == NOTE:
                self._take_note(message)
                snapshots += [message["snapshot"]] if "snapshot" in message else []
            for image in message.get("images", ()):
                acks.append(self._take(image, parts, changed))
        changed += self._model.shrunk
        self._model.shrunk = []
        stacks = [stack for stack in dict.fromkeys(changed) if stack in self._model.stacks.values()]
        try:
            self._screen.draw(stacks, bool(acks))
        except Exception as error:      # noqa: BLE001 - whatever the viewer stumbles over is said, and its windows live
            acks = [dict(ack, status=FAILED, error=self._screen.words_of(error)) for ack in acks]
        for ack in acks:
            self._link.answer(**{TYPE: ACK}, **ack)
        for folder in snapshots:
            self._link.answer(**{TYPE: SNAPSHOT}, found=self._screen.snapshot(folder))
        self._link.answered()
        return bool(messages)

    def _take(self, image, parts, changed):
        ack = {"image_id": image["image_id"], "status": SHOWN, "error": ""}
        if not self._link.is_new(image):
            return dict(ack, status=REPEATED)
        try:
            stack = self._model.take(image, self._link.array(image, parts), self._screen.looked_at())
        except Exception as error:      # noqa: BLE001 - as above
            return dict(ack, status=FAILED, error=self._screen.words_of(error))
        if stack is not None:
            changed.append(stack)
        return ack

    def _take_note(self, note):
        self._model.title = note.get("title", self._model.title)
        self._model.state = note.get("state", self._model.state)
        self._model.head = note.get("head", self._model.head)
        self._model.said = note.get("said", self._model.said)
        if "refused" in note:
            self._model.refusals[note["refused"]] = self._model.refusals.get(note["refused"], 0) + 1
        if note.get("frames"):
            self._screen.offer_frames()
        if "forget" in note:
            self._model.forget(note["forget"])
        if "remove" in note:
            self._model.remove(*note["remove"])
        self._screen.entitle()

    def _want(self, stack, picture, what=FRAMES):
        self._link.answer(**{TYPE: WANTED}, path=picture.path, name=picture.name, source=stack.source, what=what)
