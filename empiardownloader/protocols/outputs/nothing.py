# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that no set of Scipion holds."""
from .sets import OutputSets


class NoSets(OutputSets):
    """ Nothing is registered. """

    def __init__(self, why=""):
        self.why = why

    def iterSets(self, recover=True):
        return iter(())

    def getRegisteredNames(self):
        return set()

    def append(self, context, headers):
        return {}

    def close(self, context):
        """ Nothing was opened. """

    def refresh(self, context):
        """ Nothing says anything of the acquisition. """
