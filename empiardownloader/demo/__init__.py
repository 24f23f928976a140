# SPDX-License-Identifier: GPL-3.0-or-later
"""A small EMPIAR on this machine: REST API, FTP and HTTPS over one tree of synthetic movies, with faults on request."""
