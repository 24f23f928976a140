# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow a Scipion run from any Python while it grows; the standard library is all it needs.

    from empiardownloader.follow import EventType, RemoteNodeWalker
    for event in RemoteNodeWalker("/data/MyProject").walk_events():
        print(event.type.name, event.node.db_name)
"""
from .events import (
    Event,
    EventData,
    EventType,
    FollowError,
    GoneError,
    Item,
    NeverError,
    NodeContent,
    NotThereYetError,
    RestartedError,
)
from .images import ImageChannel
from .walker import RemoteNodeWalker

__all__ = ["Event", "EventData", "EventType", "FollowError", "GoneError", "ImageChannel", "Item", "NeverError",
           "NodeContent", "NotThereYetError", "RemoteNodeWalker", "RestartedError"]
