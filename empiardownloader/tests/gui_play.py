# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives Scipion's real windows: project, form, wizards, Execute, viewer. Run by test_gui.py on a virtual screen.

Usage: python -m empiardownloader.tests.gui_play FOLDER, with the demo archive's addresses in the environment. Leaves
pictures and ``result.json`` in FOLDER.
"""
import json
import os
import subprocess
import sys
import time
import traceback

import pyworkflow as pw
from pyworkflow.gui import dialog
from pyworkflow.gui.project.project import ProjectWindow
from pyworkflow.project import Manager

from empiardownloader import Plugin
from empiardownloader.archive import api
from empiardownloader.archive.remote.transports import CHOICES
from empiardownloader.wizards.dialogs import RemoteTreeDialog, WaitDialog
from empiardownloader.wizards.find import FindDialog
from empiardownloader.wizards.image_sets import ImageSetDialog

PROJECT = "EmpiarGui"
STEP_MS = 150
MOST_MS = 400000        # nothing is measured by it: it ends a play that waits for what does not come


class Play:

    def __init__(self, folder):
        self.folder = folder
        self.result = {"errors": [], "steps": []}
        self.began = time.monotonic()
        manager = Manager()
        if manager.hasProject(PROJECT):
            manager.deleteProject(PROJECT)
        self.project = manager.createProject(PROJECT)
        os.chdir(self.project.path)
        self.window = ProjectWindow(self.project.path)
        self.root = self.window.root
        self.forms = []
        self.seen = set()       # names of windows and widgets that the screen has shown
        # Dialogs wait for the same event; one that is closed before it came fails.
        self.root.bind_all("<Visibility>", lambda event: self.seen.add(str(event.widget)), add=True)

    def run(self):
        # Not at the top: on its own this module does not import, pyworkflow's windows come first.
        from pyworkflow.gui import form as gui_form
        original, forms = gui_form.FormWindow.__init__, self.forms

        def remember(form, *args, **kwargs):
            original(form, *args, **kwargs)
            forms.append(form)

        gui_form.FormWindow.__init__ = remember
        self.root.report_callback_exception = lambda *error: self.fail("".join(traceback.format_exception(*error)))
        self.root.after(1000, self.guarded(self.open_form))
        self.root.after(MOST_MS, lambda: self.fail("the play waits still: " + self.state()))
        self.window.show()
        self.end()

    def end(self):
        with open(os.path.join(self.folder, "result.json"), "w") as stream:
            json.dump(self.result, stream)
        # Nested main loops and windows that a failure left open would keep the process.
        os._exit(0)

    def guarded(self, function):
        def call(*args):
            try:
                function(*args)
            except BaseException:  # noqa: BLE001 - told to the test
                self.fail(traceback.format_exc())
        return call

    def fail(self, message):
        self.result["errors"].append(message)
        self.end()

    def step(self, name):
        """So that a failure can tell how far the play was."""
        self.result["steps"].append("%d s %s" % (time.monotonic() - self.began, name))

    def state(self):
        """What the windows that are open say."""
        return "; ".join("%s %r" % (type(window).__name__, [
            str(widget.cget("text")) for widget in self.tree_of(window) if widget.winfo_class() == "Label"][-4:])
            for window in self.dialogs(dialog.Dialog))

    def picture(self, name, window=None):
        self.step(name)
        self.root.update()
        command = ["import"]
        if window is not None:
            window.update()
            command += ["-window", str(window.winfo_id())]
        else:
            command += ["-window", "root"]
        subprocess.run(command + [os.path.join(self.folder, name + ".png")], check=False)

    def dialogs(self, kind):
        found, todo = [], [self.root]
        while todo:
            widget = todo.pop()
            todo.extend(widget.winfo_children())
            if isinstance(widget, kind):
                found.append(widget)
        return found

    def when(self, kind, act):
        """Once a dialog of a kind is on the screen, act on it; needed because dialogs block in their constructors."""
        found = self.dialogs(kind)
        if found and str(found[-1]) in self.seen:
            self.root.after(STEP_MS, self.guarded(lambda: act(found[-1])))
        else:
            self.root.after(50, self.when, kind, act)

    # -------------------------- scenes -----------------------

    def open_form(self):
        self.picture("project")
        # Which transport is the quicker here is chance, and over HTTPS sizes are rounded.
        protocol = self.window.project.newProtocol(pw.Config.getDomain().getProtocols()["EmpiarDownloader"],
                                                   transport=CHOICES.index("FTP"))
        self.root.after(1000, self.guarded(self.look_at_form))
        self.window.viewWidget._openProtocolForm(protocol)

    def look_at_form(self):
        form = self.form = self.forms[0]
        form.root.update()
        definition = form.protocol.getDefinition()
        own = [name for name, _ in definition.iterParams() if name in form.widgetDict]
        self.result["parameters"] = {name: bool(definition.getParam(name).getHelp()) for name in own}
        self.picture("form_entry", form.root)
        form.setVar("allImages", True)
        form.root.update()
        self.result["amount_shown_for_all"] = bool(form.widgetDict["amountOfImages"].label.winfo_ismapped())
        form.setVar("allImages", False)
        form.root.update()
        self.result["amount_shown_for_some"] = bool(form.widgetDict["amountOfImages"].label.winfo_ismapped())
        self.sections()
        self.wizards()

    def sections(self):
        """A picture of each section, the advanced parameters shown."""
        form = self.form
        notebooks = [widget for widget in self.tree_of(form.root) if widget.winfo_class() == "TNotebook"]
        form.protocol.expertLevel.set(1)
        form._checkAllChanges() if hasattr(form, "_checkAllChanges") else None
        for notebook in notebooks:
            for index, name in ((1, "form_acquisition"), (2, "form_transfer")):
                notebook.select(index)
                form.root.update()
                self.picture(name, form.root)
            notebook.select(0)

    def tree_of(self, widget):
        yield widget
        for child in widget.winfo_children():
            yield from self.tree_of(child)

    def wizard(self, parameter):
        self.form.wizParamName = parameter
        return self.form.wizards[parameter]()

    def wizards(self):
        form, result = self.form, self.result
        result["wizards"] = sorted(form.wizards)
        for name, value in (("entryId", " EMPIAR-90001 "), ("filePattern", "old*"), ("samplingRate", "1.5"),
                            ("imageSet", "7")):
            form.setVar(name, value)
        # The same entry: what was typed for it stays, but for what belongs to an image set that it does not have.
        self.when(FindDialog, self.use)
        self.when(dialog.MessageDialog, lambda window: self.shot_and_close("wizard_cleared", window))
        self.wizard("entryId").show(form)
        result["entry"] = [form.protocol.getAttributeValue(name) for name in (
            "entryId", "imageSet", "filePattern", "samplingRate")]
        # The entry has a workflow, which the window offers to make; then it says what it made.
        self.when(FindDialog, lambda window: self.use(window, dialog.RESULT_NO))
        self.when(dialog.MessageDialog, lambda window: self.shot_and_close("wizard_workflow", window))
        self.wizard("entryId").show(form)
        result["made"] = sorted(run.getObjLabel() for run in self.project.getRuns(refresh=True))
        for run in self.project.getRuns():
            self.project.deleteProtocol(run)

        self.when(ImageSetDialog, lambda window: self.choose(window, "2", "wizard_imageset"))
        self.wizard("imageSet").show(form)
        result["imageset_chosen"] = form.protocol.imageSet.get()
        self.when(ImageSetDialog, lambda window: window._handleResult(dialog.RESULT_CANCEL))
        self.wizard("imageSet").show(form)
        result["imageset_cancelled"] = form.protocol.imageSet.get()
        label = form.widgetDict["figures"].label
        result["figures"] = [label.cget("text")]
        form.setVar("amountOfImages", 2)
        form.root.update()
        result["figures"].append(label.cget("text"))
        self.wizard("figures").show(form)
        result["figures"].append(label.cget("text"))
        self.picture("form_figures", form.root)

        self.when(RemoteTreeDialog, lambda window: self.browse(
            window, ["/data/", "/data/Movies_tiff/"], "/data/Movies_tiff/grid1_0003.tif", "wizard_files"))
        self.wizard("filePattern").show(form)
        result["pattern_chosen"] = form.protocol.filePattern.get()
        self.when(RemoteTreeDialog, lambda window: window._handleResult(dialog.RESULT_CANCEL))
        self.wizard("filePattern").show(form)
        result["pattern_cancelled"] = form.protocol.filePattern.get()
        self.when(RemoteTreeDialog, lambda window: self.browse(
            window, ["/data/", "/data/Movies_tiff/"], "/data/Movies_tiff/grid1_0011.tif", "wizard_ticked", "_001",
            ticks=True))
        self.wizard("filePattern").show(form)
        result["ticked"] = form.protocol.filePattern.get()
        form.setVar("filePattern", result["pattern_chosen"])
        self.when(RemoteTreeDialog, lambda window: self.browse(
            window, ["/data/", "/data/Movies_tiff/"], "/data/Movies_tiff/gain_reference.mrc", "wizard_gain",
            "GAIN_*.mrc"))
        self.wizard("gainPattern").show(form)
        result["gain_chosen"] = form.protocol.gainPattern.get()
        self.when(dialog.MessageDialog, lambda window: self.shot_and_close("wizard_no_star", window))
        self.when(RemoteTreeDialog, lambda window: self.browse(
            window, ["/data/"], "/data/workflow.json", "wizard_star"))
        self.wizard("particlesFile").show(form)
        result["star_refused"] = [result["messages"].pop(), form.protocol.particlesFile.get()]

        real = dict(Plugin.getVars())
        Plugin.getVars()["EMPIAR_API_URL"] = "http://localhost:1/api"
        # Asked again as often as ever, but at once: it is waited for outside the windows.
        api.FIRST_WAIT_SECONDS = 0.05
        for name in ("imageSet", "filePattern", "gainPattern"):
            self.when(dialog.MessageDialog, lambda window: self.shot_and_close("wizard_unreachable", window))
            self.wizard(name).show(form)
        Plugin.getVars().update(real)
        result["after_unreachable"] = [form.protocol.imageSet.get(), form.protocol.filePattern.get()]
        self.root.after(STEP_MS, self.guarded(self.execute))

    def shot_and_close(self, name, window):
        self.result.setdefault("messages", []).append(
            " ".join(widget.get("1.0", "end") for widget in self.tree_of(window) if widget.winfo_class() == "Text"))
        self.picture(name, window)
        window._handleResult(dialog.RESULT_YES)

    def use(self, window, answer=dialog.RESULT_YES):
        """Once the window knows the entry that the form names."""
        if window.entry.getRecord() and window.list.selection() and window._asked == window._question():
            self.picture("wizard_entry", window)
            window._handleResult(answer)
        else:
            self.root.after(50, self.guarded(lambda: self.use(window, answer)))

    def choose(self, window, item, name):
        window.tree.selection_set(item)
        if len(window._plans) < len(window.tree.get_children()):
            self.root.after(50, self.guarded(lambda: self.choose(window, item, name)))
            return
        self.result["planned"] = window.text.cget("text")
        self.picture(name, window)
        window._handleResult(dialog.RESULT_YES)

    def browse(self, window, folders, wanted, name, text="", ticks=False):
        def again(milliseconds):
            self.root.after(milliseconds, self.guarded(lambda: self.browse(window, folders, wanted, name, text, ticks)))

        if self.dialogs(WaitDialog):
            again(100)
        elif folders:
            if window.tree.exists(folders[0]):
                self.root.after(10, self.guarded(lambda folder=folders[0]: window.open(folder)))
                folders = folders[1:]
            again(200)
        elif not window.tree.exists(wanted):
            again(100)
        elif text and window.filter.get() != text:
            # Names are shown anew once it has been applied, and what was selected is not any more: a second click
            # would be half of a double one.
            shown, window.applied = window.showFiltered, []
            window.showFiltered = lambda: window.applied.append(shown())
            window.filter.set(text)
            again(500)
        elif text and (not window.applied or window._toFilter):
            again(50)
        elif not window.tree.selection():
            window.tree.selection_set(wanted)
            window.tree.see(wanted)
            if ticks and not window.ticked:
                # The title of the column ticks all that are shown, a click on a box takes one away.
                window._tickAll()
                window.update()
                box = window.tree.bbox(wanted, "tick")
                window.tree.event_generate("<Button-1>", x=box[0] + box[2] // 2, y=box[1] + box[3] // 2)
            again(400)
        elif window._look is not None and window.picture._draw is None:
            # A folder that is shown anew takes away what is selected, and the picture that is being fetched of it.
            if window.picture.isEmpty():
                window.picture._toggle()
            again(100)
        elif window.background.isBusy("describe"):
            again(50)
        else:
            self.result.setdefault("described", []).append(window.status.cget("text"))
            folder = wanted.rpartition("/")[0] + "/"
            self.result.setdefault("listed", []).append(len(window.tree.get_children(folder)))
            self.picture(name, window)
            window._handleResult(dialog.RESULT_YES)

    def execute(self):
        self.viewed = set()
        for name, value in (("amountOfImages", 6), ("connections", 1), ("filePattern", ""), ("imageSet", ""),
                            ("gainPattern", "")):
            self.form.setVar(name, value)
        self.form.root.update()
        self.root.after(1000, self.guarded(self.watch))
        self.form.execute()

    def watch(self):
        run = self.window.project.getRuns(refresh=True, checkPids=True)[0]
        has_movies = hasattr(run, "outputMovies") and run.outputMovies.getSize() > 0
        if run.isRunning() and has_movies and "running" not in self.viewed:
            self.view(run, "running")
        if run.isFinished():
            self.view(run, "finished")
            self.result["summary"] = run.summary()
            self.result["status"] = run.getStatus()
            self.result["movies"] = run.outputMovies.getSize()
            self.picture("project_after")
            self.root.after(500, self.end)
        elif run.isFailed():
            self.fail("the run failed: %s" % run.getErrorMessage())
        else:
            self.root.after(700, self.guarded(self.watch))

    def view(self, run, name):
        self.viewed.add(name)
        viewer_class, = [viewer for viewer in pw.Config.getDomain().findViewers("EmpiarDownloader", "tkinter")
                         if viewer.__name__ == "EmpiarDownloadViewer"]
        self.result.setdefault("viewers", []).append(name)
        viewer = viewer_class(project=self.project, protocol=run, parent=self.window)
        views = viewer._visualize(run)
        for view in views:
            view.show()
        page = views[0]
        self.result["drawn_" + name] = page.wait(30)
        page.figure.savefig(os.path.join(self.folder, "viewer_%s.png" % name), dpi=80)
        self.result["images_" + name] = sum(len(axes.images) for row in page._axes for axes in row)
        if name == "running":
            self.growing = page     # and goes on
            self.result["title_running"] = page.figure._suptitle.get_text()
            return
        if name == "finished":
            self.growing.wait(30)
            self.result["title_grown"] = self.growing.figure._suptitle.get_text()
            self.result["images_grown"] = sum(len(axes.images) for row in self.growing._axes for axes in row)
            self.result["remark"] = self.growing._axes[0][3].get_title().splitlines()[-1]
            self.growing.plotter.close()
            self.result["window"] = page.figure.canvas.manager.get_window_title()
            page.goTo("6")
            page.wait(30)
            self.result["jumped"] = page.figure._suptitle.get_text()
            for text in ("nothing like it", "0002"):
                page.goTo(text)
                item = page._found.get(timeout=30)
                page._found.put(item)
                page._drawArrived()
                self.result.setdefault("found", []).append(page.figure._suptitle.get_text())
            page.turn(1)
            page.wait(30)
            self.result["second_page"] = page.figure._suptitle.get_text()
            page.turn(1)
            self.result["beyond_last_page"] = page.figure._suptitle.get_text()
            views[1].plotter.savefig(os.path.join(self.folder, "viewer_history.png"), dpi=80)
            self.result["set_viewers"] = [viewer.__name__ for viewer in pw.Config.getDomain().findViewers(
                "SetOfMovies", "tkinter")]
        for view in views:
            view.plotter.close()


if __name__ == "__main__":
    Play(os.path.abspath(sys.argv[1])).run()
