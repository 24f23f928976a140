// SPDX-License-Identifier: GPL-3.0-or-later
// The page of a run that is watched. The server tells that there is something new; this page asks for what it shows,
// and for no more: a list around the image that is looked at, and pictures of the size they are shown in.

import {$, element, fill, press, shape} from "./dom.js";
import {PICK_COLOURS, graphOf} from "./drawing.js";
import {ask, listen} from "./line.js";
import {loadAll, redraw, showLarge, showStrip} from "./pictures.js";
import {choose, isAuto, pickers, recall, remember, shows, told, view} from "./view.js";
import {FRAMES, FULL_SIZE, SECTION_WORDS, WITH_FRAMES, factsOf} from "./words.js";

const AGAIN_MS = 3000, GRAPH_MS = 2000, WANTED_MS = 60000, SOON_MS = 60;

// `refreshing`: `again` says that something changed meanwhile, `stopper` ends what has been asked for.
const refreshing = {busy: false, again: false, stopper: new AbortController(), timer: 0};
const graph = {shown: 0, due: 0};           // of how many images it is; not before this moment again
const wanted = {what: "", since: 0, refusals: 0};       // frames or full size, asked for and not here yet
let sliding = 0;

// What is told.

function take(run) {
  if (told.run && told.run.run !== run.run) {
    // Another viewer at this address: its pictures have other numbers. The image that was looked at is known by name.
    view.number = 0;
    graph.shown = 0;
  }
  told.run = run;
  document.title = [run.title, run.state].filter(Boolean).join(" - ") || "Live";
  $("title").textContent = run.title || "Live";
  $("state").textContent = run.state;
  fill($("head"), run.head.filter((pair) => Array.isArray(pair) && pair.length === 2));
  $("said").textContent = run.said;
  const names = run.sections.map((section) => section.name);
  if (names.length && !names.includes(view.section)) {
    openSection(names[0]);
  }
  $("sections").replaceChildren(...(names.length > 1 ? run.sections : []).map((section) => {
    const button = element("button", {type: "button", "aria-current": section.name === view.section},
                           `${SECTION_WORDS[section.name]} (${section.items})`);
    button.dataset.section = section.name;
    button.addEventListener("click", () => { openSection(section.name); act(); });
    return button;
  }));
  refresh();
}

function openSection(section) {
  choose(section);
  Object.assign(graph, {shown: 0, due: 0});
  $("graph").hidden = true;
}

// What is shown. Words, pictures and what is drawn over them change together, once all has come. What a change of the
// run has begun is shown before the next; what its user wants comes at once.

function act() {
  refreshing.stopper.abort();
  refresh();
}

async function refresh() {
  if (refreshing.busy) {
    refreshing.again = true;
    return;
  }
  refreshing.busy = true;
  do {
    refreshing.again = false;
    refreshing.stopper = new AbortController();
    try {
      await show(refreshing.stopper.signal);
    } catch (error) {
      // The server is away, or the image is; the user wants another one.
      if (error.name === "AbortError") {
        refreshing.again = true;
      } else {
        console.debug(String(error));
        tryLater();
      }
    }
  } while (refreshing.again);
  refreshing.busy = false;
  $("large").removeAttribute("aria-busy");
}

function tryLater() {
  clearTimeout(refreshing.timer);
  refreshing.timer = setTimeout(refresh, AGAIN_MS);
}

async function show(signal) {
  if (!told.run) {
    return;
  }
  const asked = {section: view.section, which: view.which, index: view.follows ? -1 : view.index,
                 number: view.follows ? 0 : view.number, name: view.follows ? "" : view.name};
  const found = await ask("/about", asked, signal);
  // An image that is to come yet: another viewer sends the newest first.
  const isThere = view.follows || !view.name || found.name === view.name;
  $("large").setAttribute("aria-busy", "true");
  const pictures = shownOf(found);
  const loaded = await loadAll(pictures, signal);
  told.image = {...found, section: asked.section};
  view.index = Math.max(0, found.index);
  if (isThere) {
    view.number = found.pictures.length ? found.pictures[0].number : 0;
    view.name = found.name || "";
  }
  for (const button of $("sections").children) {
    button.setAttribute("aria-current", button.dataset.section === view.section);
  }
  showMoves();
  showToggles();
  showWanted();
  showAbout();
  showLarge(pictures, loaded, (frame) => { view.frame = frame; soon(act); });
  $("large").removeAttribute("aria-busy");
  await showStrip(signal, goTo);
  await showGraph(signal);
  remember();
  if (loaded.some((image) => !image)) {
    tryLater();
  }
}

function shownOf(found) {
  const groups = found.pictures.filter((picture) => picture.group);
  const pictures = found.pictures.filter((picture) => !picture.group);
  if (groups.length) {
    wanted.what = "";
    view.frame = Math.min(view.frame, groups.length - 1);
    pictures.push({...groups[view.frame], count: groups.length});
  }
  return pictures;
}

function showMoves() {
  const {total, name} = told.image;
  $("slider").max = Math.max(0, total - 1);
  $("slider").value = view.index;
  $("slider").setAttribute("aria-valuetext", total ? `${name}, ${view.index + 1} of ${total}` : "none");
  $("slider").disabled = total < 2;
  $("where").textContent = total ? name : "";
  $("of").textContent = `of ${total}`;
  $("place").max = total;
  if (document.activeElement !== $("place")) {
    $("place").value = total ? view.index + 1 : 0;
  }
  $("back").disabled = $("first").disabled = view.index < 1;
  $("on").disabled = view.index >= total - 1;
  press("follow", view.follows);
}

function showToggles() {
  press("auto", isAuto());
  for (const name of Object.keys(shows)) {
    press(name, shows[name]);
  }
  const {pictures} = told.image;
  $("picks").hidden = !pictures.some((picture) => Object.keys(picture.picks || {}).length);
  $("rings").hidden = !pictures.some((picture) => (picture.rings || []).length);
  $("zeros").hidden = !pictures.some((picture) => (picture.zeros || []).length);
  $("bar").hidden = !pictures.some((picture) => picture.bar);
  const section = told.run.sections.find((each) => each.name === view.section);
  $("which").parentElement.hidden = view.which === "all" && !(section && section.rejected);
  $("which").value = view.which;
}

function showAbout() {
  const about = told.image;
  $("name").textContent = about.total ? about.name :
    view.which === "all" ? "nothing has come yet" : "no image of this list";
  fill($("about"), factsOf(about));
  $("pickers").replaceChildren(...pickers().map((owner, place) => {
    const box = element("input", {type: "checkbox"});
    box.checked = !view.hidden.has(owner);
    box.addEventListener("change", () => {
      box.checked ? view.hidden.delete(owner) : view.hidden.add(owner);
      redraw();
    });
    const count = Math.max(...about.pictures.map((picture) => ((picture.picks || {})[owner] || []).length));
    const sign = shape("svg", {class: "sign", viewBox: "0 0 10 10"});
    sign.append(shape("circle", {cx: 5, cy: 5, r: 3.5, class: `pick${place % PICK_COLOURS}`}));
    return element("li", {}, element("label", {}, box, " ", sign, ` ${owner || "picks"}: ${count}`));
  }));
}

async function showGraph(signal) {
  const wait = graph.due - Date.now();
  if (graph.shown === told.image.total) {
    return;
  }
  if (wait > 0) {
    setTimeout(refresh, wait);
    return;
  }
  graph.due = Date.now() + GRAPH_MS;
  graph.shown = told.image.total;
  const {points} = await ask("/graph", {section: view.section}, signal);
  const figure = $("graph");
  figure.querySelectorAll("svg").forEach((svg) => svg.remove());
  figure.hidden = points.length < 2 || points[0][0] === points[points.length - 1][0];
  if (!figure.hidden) {
    figure.append(graphOf(points));
  }
}

// What its user wants.

function goTo(index, itsNumber) {
  const about = told.image;
  // What is not shown yet has no places to go to.
  if (!about || about.section !== view.section || !about.total) {
    return;
  }
  view.index = Math.max(0, Math.min(Math.floor(index), about.total - 1));
  view.number = itsNumber || 0;
  view.name = "";
  // Whoever goes to the last one follows again.
  view.follows = view.index === about.total - 1;
  act();
}

function toggle(name) {
  shows[name] = !shows[name];
  press(name, shows[name]);
  redraw();
}

function setContrast(low, high) {
  view.low = Math.min(low, high - 1);
  view.high = high;
  $("low").value = view.low;
  $("high").value = view.high;
  press("auto", isAuto());
  act();
}

async function want(what) {
  const about = told.image;
  if (!about || !about.pictures.length || wanted.what) {
    return;
  }
  Object.assign(wanted, {what: what, since: Date.now(), refusals: refusalsOf(what)});
  showWanted();
  view.frame = 0;
  const picture = about.pictures.find((each) => !each.rings && !each.group) || about.pictures[0];
  await fetch("/want?" + new URLSearchParams({what: what, number: picture.number}), {method: "POST"}).catch(() => null);
}

const refusalsOf = (what) => (told.run && told.run.refusals[what]) || 0;

function showWanted() {
  const {pictures} = told.image;
  const canAsk = told.run.frames && WITH_FRAMES.includes(view.section) && pictures.length;
  $("frames").hidden = !canAsk || !pictures.some((picture) => picture.kind === "averages");
  $("full").hidden = !canAsk;
  // Until they come, or it is said that they do not.
  const waits = wanted.what && Date.now() - wanted.since < WANTED_MS && refusalsOf(wanted.what) === wanted.refusals;
  wanted.what = waits ? wanted.what : "";
  for (const [id, what] of [["frames", FRAMES], ["full", FULL_SIZE]]) {
    $(id).textContent = wanted.what === what ? `loading ${what}` : what;
  }
}

function soon(action) {
  clearTimeout(sliding);
  sliding = setTimeout(action, SOON_MS);
}

function bindControls() {
  $("slider").addEventListener("input", () => soon(() => goTo(Number($("slider").value))));
  $("first").addEventListener("click", () => goTo(0));
  $("place").addEventListener("change", () => $("place").value && goTo(Number($("place").value) - 1));
  $("back").addEventListener("click", () => goTo(view.index - 1));
  $("on").addEventListener("click", () => goTo(view.index + 1));
  $("follow").addEventListener("click", () => { view.follows = !view.follows; act(); });
  Object.keys(shows).forEach((name) => $(name).addEventListener("click", () => toggle(name)));
  $("which").addEventListener("change", () => {
    view.which = $("which").value;
    act();
  });
  $("low").addEventListener("input", () => soon(() => setContrast(Number($("low").value), view.high)));
  $("high").addEventListener("input", () => soon(() => setContrast(view.low, Number($("high").value))));
  $("auto").addEventListener("click", () => setContrast(0, 100));
  $("frames").addEventListener("click", () => want(FRAMES));
  $("full").addEventListener("click", () => want(FULL_SIZE));
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => { recall(); act(); });
  window.addEventListener("resize", () => soon(refresh));
}

function onKey(event) {
  const isTyping = ["SELECT", "TEXTAREA"].includes(event.target.tagName) || ["range", "number"].includes(event.target.type);
  if (event.ctrlKey || event.altKey || event.metaKey) {
    return;
  }
  const moves = {ArrowLeft: () => goTo(view.index - 1), ArrowRight: () => goTo(view.index + 1),
                 Home: () => goTo(0), End: () => goTo(Infinity)};
  const letters = {n: () => $("follow").click(), p: () => toggle("picks"), r: () => toggle("rings"),
                   z: () => toggle("zeros"), b: () => toggle("bar"), a: () => $("auto").click(),
                   m: () => $("frames").hidden || want(FRAMES), f: () => $("full").hidden || want(FULL_SIZE)};
  const action = isTyping ? letters[event.key.toLowerCase()] : moves[event.key] || letters[event.key.toLowerCase()];
  if (action && event.target.tagName !== "SELECT" && event.target.type !== "number") {
    event.preventDefault();
    action();
  }
}

recall();
bindControls();
listen(take);
