"""The main job in real projects: an entry becomes a streaming set of movies."""
from pyworkflow.object import Set

from empiardownloader.tests.base import ProtocolTestCase


class TestMainJob(ProtocolTestCase):

    def test_movies_become_a_closed_set(self):
        protocol = self.finish(self.new(amountOfImages=5))
        movies = self.check_set(protocol, 5)
        self.assertEqual((128, 96, 8), movies.getDim())
        self.assertEqual([1, 8, 1], list(movies.getFramesRange()))
        self.assertAlmostEqual(0.66, movies.getSamplingRate())
        self.assertEqual(["m_%02d.mrc" % n for n in range(5)], [row[2] for row in self.rows(protocol)])
        self.assertTrue(movies.getGain().endswith("extra/CountRef_m.mrc"))
        self.assertEqual(Set.STREAM_CLOSED, movies.getStreamState())
