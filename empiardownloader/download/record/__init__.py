# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's record: typed events (``events``), the file that keeps them (``log``), what they add up to (``facts``)."""
from .facts import Facts

__all__ = ["Facts"]
