# SPDX-License-Identifier: GPL-3.0-or-later
"""How tests wait for what another thread or process does."""
import time

# A machine with other work is so many times slower; who waits for something that comes does not wait longer for this.
PATIENCE = 6


class Waiting:
    """For test cases."""

    def wait_for(self, condition, seconds=60, what="it", look=0.02):
        """What ``condition`` gives, once it is true; ``seconds``: enough for it on a machine without other work;
        ``look``: seconds between two looks, which cost the machine something, too."""
        deadline = time.monotonic() + PATIENCE * seconds
        while time.monotonic() < deadline:
            result = condition()
            if result:
                return result
            time.sleep(look)
        return self.fail("%s did not happen within %d s" % (what, PATIENCE * seconds))
