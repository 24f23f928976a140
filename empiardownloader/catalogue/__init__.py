# SPDX-License-Identifier: GPL-3.0-or-later
"""All entries of EMPIAR in a database on this machine: found by words, codes and what they hold, also offline."""
