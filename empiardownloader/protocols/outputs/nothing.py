# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that no set of Scipion holds."""


class NoSets:
    """ Works like ImageSets, without a set. """

    def __init__(self, protocol, why=""):
        self.why = why

    def iterSets(self, recover=True):
        return iter(())

    def getRegisteredNames(self):
        return set()

    def append(self, found, facts, headers):
        return {}

    def settle(self, found, facts):
        """ Nothing is registered. """

    def close(self, found, facts):
        """ Nothing was opened. """

    def refresh(self, found, facts):
        """ Nothing says anything of the acquisition. """
