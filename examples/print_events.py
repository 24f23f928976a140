# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens in a Scipion project, as it happens: python print_events.py PROJECT"""
import sys

from empiardownloader.follow import EventType, FollowError, RemoteNodeWalker

project = sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__)
try:
    for event in RemoteNodeWalker(project).walk_events():
        if event.type is EventType.NEW_DATA:
            for item in event.data.data:
                print(event.node.db_name, item.id, item.path, flush=True)
        elif event.type is EventType.END_SCAN:
            print(event.node.db_name, event.data.data, event.data.description or "", flush=True)
        else:
            print(event.type.name, event.node.type, event.node.db_name, flush=True)
except FollowError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    pass
