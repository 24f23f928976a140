# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a viewer from being shown."""


class LiveError(Exception):
    """One sentence for the user: what is missing, and the line that cures it."""
