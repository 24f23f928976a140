# SPDX-License-Identifier: GPL-3.0-or-later
"""EMPIAR as Python objects: entries, remote folders, movies and the bytes of their files.

Nothing here knows Scipion; requests is the only package needed.
"""
