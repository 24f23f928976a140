# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image file on disk is: its size, and its frames one by one."""
