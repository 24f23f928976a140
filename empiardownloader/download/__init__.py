# SPDX-License-Identifier: GPL-3.0-or-later
"""One image set onto the disk: what was asked for, what is fetched next, which reference fits, what has happened."""
