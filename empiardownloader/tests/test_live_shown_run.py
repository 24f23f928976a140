# SPDX-License-Identifier: GPL-3.0-or-later
"""What events mean for a viewer: which images, which points over which of them, what goes away, what the title says."""
import unittest

from empiardownloader.follow import Event, EventType, Item, NodeContent
from empiardownloader.follow.events import EventData
from empiardownloader.live.shown_run import NOTHING_SHOWN, Forget, Retitle, ShowImages, ShownRun, ShowPicks

IS_QUICK = True

MOVIES, MICROGRAPHS = "000001_Load:outputMovies", "000002_Align:outputMicrographs"
PICKS = "000003_Pick:outputCoordinates"


def run(name, status="running", ended=False, **info):
    node = NodeContent("run", name, name, dict(info, status=status), "/p/" + name)
    return Event(EventType.END_SCAN, node, EventData(data=status)) if ended else Event(EventType.NEW_NODE, node)


def node(db_name, **info):
    kind = db_name.partition(":output")[2]
    return NodeContent("SetOf" + kind, db_name, db_name, info, "/p/x.sqlite")


def new(db_name, **info):
    return Event(EventType.NEW_NODE, node(db_name, **info))


def data(db_name, items, **info):
    return Event(EventType.NEW_DATA, node(db_name, **info), EventData(0, items, None, len(items)))


def movie(number):
    return Item(number, "/p/m_%d.mrc" % number, 0, "m_%d.mrc" % number, {})


def pick(number, name, x, y):
    return Item(number, None, 0, "", {"_micName": name, "_x": x, "_y": y})


class TestShownRun(unittest.TestCase):

    def setUp(self):
        self.shown = ShownRun()

    def apply(self, event, followed=True):
        return self.shown.apply(event, followed)

    def titles(self, event):
        actions = self.apply(event)
        self.assertTrue(all(isinstance(action, Retitle) for action in actions), actions)
        return [action.state for action in actions]

    def test_images_are_shown(self):
        self.assertEqual(["running"], self.titles(run("000001_Load", outputs=[])))
        self.assertEqual(["running"], self.titles(new(MOVIES)))
        show, = self.apply(data(MOVIES, [movie(1), movie(2)]))
        self.assertIsInstance(show, ShowImages)
        self.assertEqual(["m_1.mrc", "m_2.mrc"], [item.name for item in show.items])

    def test_what_is_not_shown_is_said(self):
        self.assertEqual(["running, " + NOTHING_SHOWN], self.titles(run("000001_Load", outputs=["outputFSC"])))
        self.assertFalse(self.shown.has_shown)
        self.assertEqual(["running"], self.titles(new(MOVIES)))

    def test_after_a_restart_what_was_shown_goes(self):
        self.apply(new(MOVIES))
        self.apply(data(MOVIES, [movie(1)]))
        self.assertEqual([Forget(MOVIES)], self.apply(new(MOVIES)))

    def test_a_set_of_another_run_does_not_take_away_what_is_shown(self):
        """F15: the project's walker tells of the same set as the one of the run that is followed."""
        self.apply(new(MOVIES))
        self.assertEqual([], self.apply(new(MOVIES), followed=False))

    def test_picks_add_up(self):
        self.apply(new(MICROGRAPHS, sampling_rate=1.5), followed=False)
        self.apply(new(PICKS, micrographs=MICROGRAPHS))
        first, = self.apply(data(PICKS, [pick(1, "m_1.mrc", 10, 20)], micrographs=MICROGRAPHS,
                                 properties={"_boxSize": "64"}))
        self.assertEqual(("m_1.mrc", [(10.0, 20.0)], 64.0, PICKS, 1.5), (
            first.name, first.picks.points, first.picks.box, first.source, first.pixel_size))
        again, = self.apply(data(PICKS, [pick(2, "m_1.mrc", 30, 40)], micrographs=MICROGRAPHS))
        self.assertEqual([(10.0, 20.0), (30.0, 40.0)], again.picks.points)
        self.assertEqual([(10.0, 20.0)], first.picks.points)        # it may not have been shown yet

    def test_picks_after_a_restart_of_the_picker(self):
        self.apply(new(PICKS))
        self.apply(data(PICKS, [pick(1, "m_1.mrc", 10, 20)]))
        self.assertEqual([Forget(PICKS)], self.apply(new(PICKS)))
        show, = self.apply(data(PICKS, [pick(1, "m_1.mrc", 5, 6)]))
        self.assertEqual([(5.0, 6.0)], show.picks.points)

    def test_the_pixel_size_comes_after_the_picks(self):
        first, = self.apply(data(PICKS, [pick(1, "m_1.mrc", 10, 20)], micrographs="000002_Align"))
        self.assertIsNone(first.pixel_size)
        again = self.apply(new(MICROGRAPHS, sampling_rate=2.0), followed=False)
        self.assertEqual([("m_1.mrc", 2.0)], [(show.name, show.pixel_size) for show in again])

    def test_what_picks_lie_on_and_what_that_was_made_of(self):
        self.apply(run("000001_Load"))
        self.apply(run("000002_Align", form={"inputMovies": MOVIES, "binFactor": 2}), followed=False)
        show, = self.apply(data(PICKS, [pick(1, "m_1.mrc", 1, 2)], micrographs=MICROGRAPHS))
        self.assertEqual([MICROGRAPHS, MOVIES], show.over)

    def test_points_without_a_place_are_skipped(self):
        self.assertEqual([], self.apply(data(PICKS, [pick(1, "m_1.mrc", None, 2), pick(2, "", 1, 2)])))
        show, = self.apply(data(PICKS, [pick(3, "m_1.mrc", 1, 2)], properties={"_boxSize": "wide"}))
        self.assertEqual(0.0, show.picks.box)
        self.assertIsInstance(show, ShowPicks)

    def test_when_all_is_over(self):
        self.assertFalse(self.shown.is_over)
        self.apply(run("000001_Load"))
        self.apply(run("000004_Other", status="running"), followed=False)
        self.assertFalse(self.shown.is_over)
        self.assertEqual(["finished"], self.titles(run("000001_Load", "finished", ended=True)))
        self.assertTrue(self.shown.is_over)
        self.apply(run("000001_Load", "running"))
        self.assertFalse(self.shown.is_over)        # continued

    def test_a_gain_reference_is_of_movies(self):
        self.apply(new(MOVIES, gain="/p/gain.mrc"))
        self.apply(new(MICROGRAPHS, gain="/p/gain.mrc"))
        self.assertEqual(("/p/gain.mrc", None, None),
                         tuple(self.shown.gain_of(source) for source in (MOVIES, MICROGRAPHS, "none")))
