# SPDX-License-Identifier: GPL-3.0-or-later
"""What events mean for a viewer: which images, which points over which of them, what goes away, what the title says."""
import unittest

from empiardownloader.follow import Event, EventType, Item, NodeContent
from empiardownloader.follow.events import EventData
from empiardownloader.live.shown_run import (
    NOTHING_SHOWN,
    Forget,
    Remove,
    Retitle,
    ShowFacts,
    ShowImages,
    ShowMontage,
    ShownRun,
    ShowPicks,
)

IS_QUICK = True

MOVIES, MICROGRAPHS = "000001_Load:outputMovies", "000002_Align:outputMicrographs"
PICKS, CTFS = "000003_Pick:outputCoordinates", "000004_Fit:outputCTF"


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


def changed(db_name, items, **info):
    return Event(EventType.CHANGED_DATA, node(db_name, **info), EventData(0, items, None, len(items)))


def removed(db_name, *ids, **info):
    items = [Item(number, None, 0, str(number), {}) for number in ids]
    return Event(EventType.REMOVED, node(db_name, **info), EventData(-1, items, None, len(items)))


def ctf(number, name, defocus, resolution=None, psd=None):
    return Item(number, "/p/%s" % name, 0, name, {
        "_defocusU": defocus, "_defocusV": defocus, "_defocusAngle": 10, "_resolution": resolution, "_psdFile": psd,
        "enabled": 1})


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

    def but_titles(self, event, followed=True):
        return [action for action in self.apply(event, followed) if not isinstance(action, Retitle)]

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
        self.assertEqual([Forget(MOVIES)], self.but_titles(new(MOVIES)))

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
        self.assertEqual([Forget(PICKS)], self.but_titles(new(PICKS)))
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
        last_words = run("000001_Load", "finished", steps_done=9).node
        self.apply(Event(EventType.INFO, last_words))
        self.assertTrue(self.shown.is_over)
        self.apply(Event(EventType.INFO, run("000001_Load", "running").node))
        self.assertFalse(self.shown.is_over)
        self.apply(run("000001_Load", "finished", ended=True))
        self.apply(run("000001_Load", "running"))
        self.assertFalse(self.shown.is_over)        # continued

    def test_a_file_that_is_another_one_is_shown_anew(self):
        self.apply(data(MICROGRAPHS, [movie(1), movie(2)]))
        same, other = movie(1), Item(2, "/p/dw_2.mrc", 0, "m_2.mrc", {})
        self.assertEqual([Remove(MICROGRAPHS, 2), ShowImages(node(MICROGRAPHS), [other])],
                         self.apply(changed(MICROGRAPHS, [same, other])))

    def test_what_is_rejected_and_what_goes_is_known_by_its_id(self):
        """Two micrographs may have one name."""
        items = [Item(number, "/p/%d.mrc" % number, 0, "same.mrc", {"enabled": number != 2}) for number in (1, 2, 3)]
        show, facts = self.apply(data(MICROGRAPHS, items))
        self.assertEqual(3, len(show.items))
        self.assertEqual(("same.mrc", True, 2), (facts.name, facts.facts.values["rejected"], facts.item))
        back, = self.apply(changed(MICROGRAPHS, [Item(2, "/p/2.mrc", 0, "same.mrc", {"enabled": 1})]))
        self.assertEqual((False, 2), (back.facts.values["rejected"], back.item))
        self.assertEqual([Remove(MICROGRAPHS, 3)], self.apply(removed(MICROGRAPHS, 3)))

    def test_tilts(self):
        """By their angles, each by itself; those that were excluded are marked, those that go are gone."""
        series = "000005_Import:outputTiltSeries"

        def tilts(*angles, excluded=()):
            images = [{"path": "/p/ts.mrcs", "index": number, "_tiltAngle": angle, "enabled": angle not in excluded}
                      for number, angle in enumerate(angles, 1)]
            return Item(2, "/p/ts.mrcs", 1, "TS_2", {"images": images, "enabled": 1})

        show, excluded = self.apply(data(series, [tilts(0.01, -3.0, 0.04, excluded=(0.04,))]))
        self.assertEqual([("TS_2 -3.0\u00b0", 2), ("TS_2 +0.0\u00b0", 1), ("TS_2 +0.0\u00b0", 3)],
                         [(item.name, item.index) for item in show.items])
        self.assertEqual((show.items[2].id, True), (excluded.item, excluded.facts.values["rejected"]))
        again = self.apply(changed(series, [tilts(0.01, -3.0, 0.04, excluded=(0.04, -3.0))]))
        self.assertEqual([(show.items[0].id, True)], [(each.item, each.facts.values["rejected"]) for each in again])
        self.assertEqual({Remove(series, item.id) for item in show.items}, set(self.apply(removed(series, 2))))

    def test_ctfs_are_said_of_their_micrographs(self):
        self.apply(run("000002_Align"))
        self.apply(new(MICROGRAPHS, acquisition={"voltage": 300.0, "spherical_aberration": 2.7,
                                                 "amplitude_contrast": 0.1}))
        said, = self.apply(data(CTFS, [ctf(1, "m_1", 15000, resolution=4.0)], micrographs=MICROGRAPHS))
        self.assertEqual(("m_1", [MICROGRAPHS, CTFS]), (said.name, said.over))
        self.assertEqual((15000, 300.0, 2.7, 4.0), tuple(said.facts.values["ctf"][name] for name in (
            "defocus_u", "voltage", "cs", "resolution")))
        self.assertIn("defocus 1.50", said.facts.values["note"])
        failed, = self.apply(changed(CTFS, [ctf(1, "m_1", -999, resolution=float("inf"))], micrographs=MICROGRAPHS))
        self.assertEqual(({}, "no CTF was found"), (failed.facts.values["ctf"], failed.facts.values["note"]))
        endless, = self.apply(changed(CTFS, [ctf(1, "m_1", 15000, resolution=float("inf"))], micrographs=MICROGRAPHS))
        self.assertNotIn("to", endless.facts.values["note"])
        gone, = self.apply(removed(CTFS, 1, micrographs=MICROGRAPHS))
        self.assertEqual(("m_1", {}), (gone.name, gone.facts.values))

    def test_pictures_of_fits_are_of_what_is_followed(self):
        """Another run's CTFs are none of this one's, whatever the names."""
        self.apply(run("000002_Align"))
        self.apply(new(MICROGRAPHS))
        drawn = ctf(1, "m_1", 15000, psd="Runs/x.ctf:mrc")
        others = self.apply(data("000008_Fit:outputCTF", [drawn], micrographs="000007_B:outputMicrographs"), False)
        self.assertEqual([ShowFacts], [type(action) for action in others])
        mine = self.apply(data("000009_Fit:outputCTF", [drawn], micrographs=MICROGRAPHS), False)
        self.assertEqual([ShowImages, ShowFacts], [type(action) for action in mine])
        self.assertTrue(mine[0].items[0].path.endswith("Runs/x.ctf:mrc"))
        # What was made of it is told later.
        freed = self.apply(run("000007_B", form={"inputMovies": "000002_Align"}), False)
        self.assertEqual(["000008_Fit:outputCTF"], [action.node.db_name for action in freed])

    def test_a_set_that_both_walkers_tell_of(self):
        self.apply(new(CTFS), followed=False)
        self.apply(data(CTFS, [ctf(1, "m_1", 15000)]), followed=False)
        self.assertEqual([], self.but_titles(new(CTFS)))
        self.assertEqual([], self.apply(new(CTFS), followed=False))
        self.assertEqual([], self.apply(data(CTFS, [ctf(1, "m_1", 15000)]), followed=False))

    def test_picks_that_are_rejected_or_go(self):
        self.apply(data(PICKS, [pick(number, "m_1.mrc", number, 0) for number in (1, 2, 3)]))
        rejected = pick(2, "m_1.mrc", 2, 0)
        rejected.attributes["enabled"] = 0
        show, = self.apply(changed(PICKS, [rejected]))
        self.assertEqual([(1.0, 0.0), (3.0, 0.0)], show.picks.points)
        show, = self.apply(changed(PICKS, [pick(1, "m_1.mrc", 9, 9)]))
        self.assertEqual({(9.0, 9.0), (3.0, 0.0)}, set(show.picks.points))
        show, = self.apply(removed(PICKS, 1, 3))
        self.assertEqual([], show.picks.points)

    def test_classes_grow_and_change(self):
        """Of classes all is looked at: sizes grow, iterations take the place of each other, some are rejected."""
        classes = "000006_Class:outputClasses2D"

        def item(number, iteration=1, size=10, enabled=1):
            return Item(number, "/p/it%d.mrcs" % iteration, number, "c", {"_size": size, "enabled": enabled})

        first, second = self.apply(data(classes, [item(number) for number in range(1, 131)]))
        self.assertEqual([(1, 100), (101, 30)], [(show.first, len(show.items)) for show in (first, second)])
        grown, = self.apply(changed(classes, [item(7, size=99)]))
        self.assertEqual((1, 99), (grown.first, grown.items[6].attributes["_size"]))
        rejected, = self.apply(changed(classes, [item(120, enabled=0)]))
        self.assertEqual(101, rejected.first)
        self.assertEqual([], self.apply(changed(classes, [item(120, enabled=0)])))
        self.assertEqual([ShowMontage, Remove], [type(action) for action in self.apply(
            removed(classes, *range(90, 131)))])

    def test_particles_a_hundred_at_a_time(self):
        particles = "000006_Extract:outputParticles"
        items = [Item(number, "/p/x.mrcs", number, "x", {}) for number in range(1, 251)]
        shows = [show for some in (items[:90], items[90:]) for show in self.apply(data(particles, some))]
        self.assertEqual([(1, 90), (1, 100), (101, 100), (201, 50)], [(show.first, len(show.items)) for show in shows])

    def test_what_is_looked_at_together(self):
        self.apply(run("000001_Load"))
        self.apply(run("000002_Align", form={"inputMovies": MOVIES}), False)
        self.apply(run("000007_Other"), False)
        families = [self.shown.family_of(each) for each in (
            node(MOVIES), node(MICROGRAPHS), node(CTFS, micrographs=MICROGRAPHS), node("000007_Other:outputMovies"))]
        self.assertEqual(["000001_Load"] * 3 + ["000007_Other"], families)

    def test_outputs_that_are_not_shown_are_named(self):
        self.apply(run("000002_Align", outputs=["outputMicrographs", "outputFSC"], label="Mine"))
        title, = self.apply(new(MICROGRAPHS))
        self.assertEqual([("Run", "Mine"), ("Not shown live", "outputFSC")], title.head)

    def test_the_head_of_a_download(self):
        progress = {"images": 7, "images_wanted": 12, "done_bytes": 14e6, "total_bytes": 24e6, "rate": 3.1e6,
                    "seconds_left": 75, "words": "movies", "skipped": 2, "remark": "waiting for x"}
        title, = self.apply(run("000001_Load", label="L", form={"entryId": "10200"}, progress=progress))
        self.assertEqual([
            ("Run", "L"), ("Entry", "EMPIAR-10200"), ("Downloaded", "7 of 12 movies"), ("Size", "14.0 MB of 24.0 MB"),
            ("Skipped", "2 files, see the run's summary"), ("Rate", "3.1 MB/s"), ("Time left", "about 1 min 15 s"),
            ("Waiting", "waiting for x")], title.head)
        title, = self.apply(run("000001_Load", "failed", ended=True, label="L", progress=progress, error="No line."))
        self.assertEqual(("Error", "No line."), title.head[-1])
        self.assertNotIn("Rate", dict(title.head))

    def test_runs_that_have_failed_are_named(self):
        self.apply(run("000001_Load", progress={"images": 1}, label="Movies"))
        title, = self.apply(run("000002_Align", "failed", ended=True, label="Align", error="CUDA out of memory"))
        self.assertIn(("Failed", "Align: CUDA out of memory"), title.head)
        self.assertIn(("Run", "Movies"), title.head)
        title, = self.apply(run("000001_Load", "finished", ended=True, label="Movies"))
        self.assertEqual([("Runs", "1 finished, 1 failed"), ("Failed", "Align: CUDA out of memory")], title.head)

    def test_the_only_output_that_is_followed(self):
        shown = ShownRun("outputFSC")
        title, = shown.apply(run("000001_Load", outputs=["outputMovies", "outputFSC"]), True)
        self.assertEqual(("Not shown live", "outputFSC"), title.head[-1])

    def test_a_gain_reference_is_of_movies(self):
        self.apply(new(MOVIES, gain="/p/gain.mrc"))
        self.apply(new(MICROGRAPHS, gain="/p/gain.mrc"))
        self.assertEqual(("/p/gain.mrc", None, None),
                         tuple(self.shown.gain_of(source) for source in (MOVIES, MICROGRAPHS, "none")))
