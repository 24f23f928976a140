# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of two addresses of which the first one does not answer, as where IPv6 is broken."""
import contextlib
import socket
import unittest
from unittest import mock

from empiardownloader.archive.addresses import KNOWN
from empiardownloader.archive.errors import TransientError
from empiardownloader.archive.remote.ftp import FtpArchive
from empiardownloader.archive.remote.https import HttpArchive
from empiardownloader.archive.stopping import StopToken
from empiardownloader.tests import scripted

IS_QUICK = True

HOST = "two-addresses.test"
DEAD, ALIVE = "127.0.0.2", "127.0.0.1"


@contextlib.contextmanager
def two_addresses(port, order=(DEAD, ALIVE)):
    """The resolver knows HOST by two addresses, the first of which takes no connection; gives the names asked."""
    asked, ask = [], socket.getaddrinfo

    def resolve(host, *args, **options):
        asked.append(host)
        if host != HOST:
            return ask(host, *args, **options)
        return [found for address in order for found in ask(address, *args, **options)]

    with contextlib.ExitStack() as stack:
        # Nobody accepts: with its queue full, further calls are left unanswered.
        dead = stack.enter_context(socket.socket())
        dead.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        dead.bind((DEAD, port))
        dead.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((DEAD, port))
        stack.enter_context(mock.patch("socket.getaddrinfo", resolve))
        yield asked


class TestAddresses(unittest.TestCase):

    def setUp(self):
        KNOWN.failed(HOST)
        self.addCleanup(KNOWN.failed, HOST)

    def sizes(self, archive, count):
        """What so many connections of their own say of a file's size."""
        found = []
        for _ in range(count):
            with contextlib.closing(archive._begun(3, StopToken())) as connection:
                found.append(connection.state("a.mrc").size)
        return found

    def check(self, kind, scheme, port):
        archive = kind("%s://%s:%d/" % (scheme, HOST, port), "1", 3.0)
        with two_addresses(port) as asked:
            self.assertEqual([5] * 3, self.sizes(archive, 3))
            # The name once, then what answered.
            self.assertEqual([HOST, ALIVE, ALIVE], asked)
        with two_addresses(port, (ALIVE,)) as asked:
            KNOWN.failed(HOST)
            self.assertEqual([5] * 2, self.sizes(archive, 2))
            self.assertEqual([HOST] * 2, asked)

    def test_ftp(self):
        with scripted.small_ftp(b"bytes", "") as port:
            self.check(FtpArchive, "ftp", port)

    def test_http(self):
        with scripted.small_http(b"bytes") as (port, _):
            self.check(HttpArchive, "http", port)

    def test_what_answered_once_and_does_not_any_more(self):
        with scripted.small_http(b"bytes") as (port, _):
            archive = HttpArchive("http://%s:%d/" % (HOST, port), "1", 3.0)
            with two_addresses(port):
                self.sizes(archive, 1)
            # The other way round: the one that is known has gone, the name is asked again.
            known = KNOWN.best(HOST)
            self.assertEqual(ALIVE, known)
            with mock.patch.object(KNOWN, "best", lambda host: DEAD if host == HOST else host), \
                    two_addresses(port, (ALIVE,)), self.assertRaises(TransientError):
                self.sizes(archive, 1)
            with two_addresses(port, (ALIVE,)) as asked:
                self.assertEqual([5], self.sizes(archive, 1))
                self.assertEqual([HOST], asked)


if __name__ == "__main__":
    unittest.main()
