# SPDX-License-Identifier: GPL-3.0-or-later
"""Our sets in the hands of other programs. Needs the plugins of requirements-downstream.txt: ``make downstream``."""
