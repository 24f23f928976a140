# SPDX-License-Identifier: GPL-3.0-or-later
"""What the process that runs are forked from has loaded: all plugins. See forked.py."""
import pyworkflow as pw

pw.Config.getDomain().getProtocols()
