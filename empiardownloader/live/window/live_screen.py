# SPDX-License-Identifier: GPL-3.0-or-later
"""What all viewers do with the sender's messages, whatever they draw with."""
import live_model


class Screen:
    """Takes images into the model, has what changed drawn, and answers.

    For subclasses: ``_draw`` the stacks that have changed and remove those that are gone, ``_kept`` tells what is being
    looked at, ``_offer_frames`` a button for them, ``_entitle`` anew, ``_snapshot`` as StreamingBackend.snapshot says.
    """

    def __init__(self, link, title):
        self._link = link
        self.model = live_model.Model(title)

    def tick(self):
        """-> whether there was anything to do."""
        changed, acks, snapshots = [], [], []
        messages = self._link.messages(self.MOST_MESSAGES)
        for message, parts in messages:
            if message["type"] == "note":
                self._note(message)
                snapshots += [message["snapshot"]] if "snapshot" in message else []
            for image in message.get("images", ()):
                acks.append(self._take(image, parts, changed))
        try:
            self._draw([stack for stack in dict.fromkeys(changed) if stack in self.model.stacks.values()], bool(acks))
        except Exception as error:      # noqa: BLE001 - whatever the viewer stumbles over is said, and its windows live
            acks = [dict(ack, status="failed", error=self._words_of(error)) for ack in acks]
        for ack in acks:
            self._link.answer(type="ack", **ack)
        for folder in snapshots:
            self._link.answer(type="snapshot", found=self._snapshot(folder))
        self._link.answered()
        return bool(messages)

    def _take(self, image, parts, changed):
        ack = {"image_id": image["image_id"], "status": "shown", "error": ""}
        if not self._link.is_new(image):
            return dict(ack, status="repeated")
        try:
            stack = self.model.take(image, self._link.array(image, parts), self._kept())
        except Exception as error:      # noqa: BLE001 - as above
            return dict(ack, status="failed", error=self._words_of(error))
        if stack is not None:
            changed.append(stack)
        return ack

    def _note(self, message):
        self.model.title = message.get("title", self.model.title)
        self.model.state = message.get("state", self.model.state)
        if message.get("frames"):
            self._offer_frames()
        if "forget" in message:
            self.model.forget(message["forget"])
        self._entitle()

    def _entitle(self):
        """Nothing, where titles are looked after all the time."""

    @staticmethod
    def _words_of(error):
        return " ".join(str(error).split())[:200] or type(error).__name__
