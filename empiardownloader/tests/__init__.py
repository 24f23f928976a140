# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests, found by Scipion's own runner, by unittest and by pytest."""
