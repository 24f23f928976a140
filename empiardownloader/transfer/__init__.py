# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes onto the disk: several connections, all on the earliest unfinished file, resumed and verified."""
