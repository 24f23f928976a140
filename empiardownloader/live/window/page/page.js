// SPDX-License-Identifier: GPL-3.0-or-later
// The page of a run that is watched. The server tells by /changes that there is something new, in few words; this page
// asks for what it shows, and for no more: a list around the image that is looked at, and pictures of the size they are
// shown in. All that comes from files and projects is put in as text, never as markup.
"use strict";

const SILENT_MS = 40000;        // the server gives a sign of life every 15 s; after this the line is taken to be dead
const AGAIN_MS = 3000;
const LABEL_PIXELS = 20;        // between the labels of two rings
const LABEL_LETTERS = 13, STRIP_EDGES = 8;
const THUMB_PIXELS = 96, THUMB_ROOM = 104;
const SIZES = 128;              // pictures are asked for in steps of so many pixels, so that a cache has them
const GRAPH_MS = 2000, WANTED_MS = 60000, HIDDEN_MS = 60000;
const SVG = "http://www.w3.org/2000/svg";
const WORDS = {"images": "images", "tilt series": "tilts", "particles": "particles", "classes": "class averages",
               "volumes": "volumes"};
const CAPTIONS = {"averages": "frame average", "power spectra": "power spectrum", "micrographs": "micrograph",
                  "tilts": "tilt", "CTF fits": "CTF fit"};

const $ = (id) => document.getElementById(id);
const view = {section: "images", which: "all", index: -1, number: 0, name: "", follows: true, low: 0, high: 100,
              frame: 0, hidden: new Set()};
const shows = {picks: true, rings: true, zeros: true, bar: true};
let state = null, about = null, source = null, heard = 0, graphed = 0, graphDue = 0;
let busy = false, again = false, stopper = new AbortController(), wanted = "", wantedAt = 0, refusedBefore = 0;

// Small helpers.

function element(name, attributes, ...children) {
  const found = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    found.setAttribute(key, value);
  }
  found.append(...children);
  return found;
}

function shape(name, attributes, text) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    found.setAttribute(key, value);
  }
  if (text !== undefined) {
    found.textContent = text;
  }
  return found;
}

function fill(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([term, words, kind]) => {
    const both = [element("dt", {}, term), element("dd", kind ? {class: kind} : {}, words)];
    return list.id === "head" ? [element("div", {}, ...both)] : both;
  }));
}

async function ask(path, values, signal) {
  const answer = await fetch(path + "?" + new URLSearchParams(values), {signal: signal});
  if (!answer.ok) {
    throw new Error(path + ": " + answer.status);
  }
  return answer.json();
}

function imageAddress(picture, side, limits, form) {
  const values = {side: side};
  if (limits) {
    values.low = limits[0];
    values.high = limits[1];
  }
  return `/image/${state.run}/${picture.number}-${picture.version}.${form}?` + new URLSearchParams(values);
}

// The line to the server.

function connect() {
  disconnect();
  heard = Date.now();
  source = new EventSource("/changes");
  source.addEventListener("state", (event) => {
    heard = Date.now();
    tellLine("");
    take(JSON.parse(event.data));
  });
  source.addEventListener("alive", () => {
    heard = Date.now();
    tellLine("");
  });
  source.addEventListener("full", () => tellLine("too many pages watch: trying again"));
  source.onerror = () => {
    tellLine("connection lost: trying again");
    if (source && source.readyState === EventSource.CLOSED) {
      // A browser gives up when it is answered by an error.
      disconnect();
      setTimeout(() => source || document.hidden || connect(), AGAIN_MS);
      explain();
    }
  };
}

function disconnect() {
  if (source) {
    source.close();
    source = null;
  }
}

async function explain() {
  const answer = await fetch("/list").catch(() => null);
  if (answer && answer.status === 401) {
    tellLine("the viewer was started anew with another token: open the address that it printed");
  }
}

function tellLine(problem) {
  $("line").textContent = problem || "connected";
  $("line").classList.toggle("lost", Boolean(problem));
}

function watchLine() {
  // A line may be dead without a word, after sleep say.
  if (source && Date.now() - heard > SILENT_MS) {
    connect();
  }
}

// What is told.

function take(told) {
  if (state && state.run !== told.run) {
    // Another viewer at this address: its pictures have other numbers. The image that was looked at is known by name.
    view.number = 0;
    graphed = 0;
  }
  state = told;
  document.title = [state.title, state.state].filter(Boolean).join(" - ") || "Live";
  $("title").textContent = state.title || "Live";
  $("state").textContent = state.state;
  fill($("head"), state.head.filter((pair) => Array.isArray(pair) && pair.length === 2));
  $("said").textContent = state.said;
  const names = state.sections.map((section) => section.name);
  if (names.length && !names.includes(view.section)) {
    choose(names[0]);
  }
  $("sections").replaceChildren(...(names.length > 1 ? state.sections : []).map((section) => {
    const button = element("button", {type: "button", "aria-current": section.name === view.section},
                           `${WORDS[section.name]} (${section.items})`);
    button.addEventListener("click", () => { choose(section.name); act(); });
    return button;
  }));
  refresh();
}

function choose(section) {
  graphDue = 0;
  $("graph").hidden = true;
  view.section = section;
  view.number = 0;
  view.name = "";
  view.index = -1;
  view.follows = true;
  graphed = 0;
}

// What is shown. Words, pictures and what is drawn over them change together, once all has come. What a change of the
// run has begun is shown before the next; what its user wants comes at once.

function act() {
  stopper.abort();
  refresh();
}

async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  do {
    again = false;
    stopper = new AbortController();
    try {
      await show(stopper.signal);
    } catch (error) {
      // The server is away, or the image is; the user wants another one.
      if (error.name === "AbortError") {
        again = true;
      } else {
        console.debug(String(error));
        tryLater();
      }
    }
  } while (again);
  busy = false;
  $("large").removeAttribute("aria-busy");
}

let later = 0;

function tryLater() {
  clearTimeout(later);
  later = setTimeout(refresh, AGAIN_MS);
}

async function show(signal) {
  if (!state) {
    return;
  }
  const asked = {section: view.section, which: view.which, index: view.follows ? -1 : view.index,
                 number: view.follows ? 0 : view.number, name: view.follows ? "" : view.name};
  const found = await ask("/about", asked, signal);
  // An image that is to come yet: another viewer sends the newest first.
  const isThere = view.follows || !view.name || found.name === view.name;
  $("large").setAttribute("aria-busy", "true");
  const pictures = shownOf(found);
  const loaded = await Promise.all(pictures.map((picture) => load(addressOf(picture), signal)));
  about = found;
  view.index = Math.max(0, about.index);
  if (isThere) {
    view.number = about.pictures.length ? about.pictures[0].number : 0;
    view.name = about.name || "";
  }
  for (const button of $("sections").children) {
    button.setAttribute("aria-current", button.textContent.startsWith(WORDS[view.section] + " ("));
  }
  showControls();
  showAbout();
  showLarge(pictures, loaded);
  $("large").removeAttribute("aria-busy");
  await showStrip(signal);
  await showGraph(signal);
  remember();
  if (loaded.some((image) => !image)) {
    tryLater();
  }
}

function shownOf(told) {
  const groups = told.pictures.filter((picture) => picture.group);
  const pictures = told.pictures.filter((picture) => !picture.group);
  if (groups.length) {
    wanted = "";
    view.frame = Math.min(view.frame, groups.length - 1);
    pictures.push({...groups[view.frame], count: groups.length});
  }
  return pictures;
}

const loadedImages = new Map();     // of what is on the page: address -> image

function load(address, signal) {
  if (loadedImages.has(address)) {
    return loadedImages.get(address);
  }
  return new Promise((resolve, reject) => {
    const image = new Image();
    const giveUp = () => {
      image.src = "";
      reject(new DOMException("", "AbortError"));
    };
    signal.addEventListener("abort", giveUp);
    const end = (found) => {
      // What is there stays: it may be on the page.
      signal.removeEventListener("abort", giveUp);
      resolve(found);
    };
    image.onload = () => end(image);
    image.onerror = () => end(null);
    image.src = address;
  });
}

function showControls() {
  $("slider").max = Math.max(0, about.total - 1);
  $("slider").value = view.index;
  $("slider").setAttribute("aria-valuetext", about.total ? `${about.name}, ${view.index + 1} of ${about.total}` : "none");
  $("slider").disabled = about.total < 2;
  $("where").textContent = about.total ? `${about.name}` : "";
  $("of").textContent = `of ${about.total}`;
  $("place").max = about.total;
  if (document.activeElement !== $("place")) {
    $("place").value = about.total ? view.index + 1 : 0;
  }
  $("back").disabled = $("first").disabled = view.index < 1;
  $("on").disabled = view.index >= about.total - 1;
  press("follow", view.follows);
  press("auto", isAuto());
  for (const name of Object.keys(shows)) {
    press(name, shows[name]);
  }
  $("picks").hidden = !about.pictures.some((picture) => Object.keys(picture.picks || {}).length);
  $("rings").hidden = !about.pictures.some((picture) => (picture.rings || []).length);
  $("zeros").hidden = !about.pictures.some((picture) => (picture.zeros || []).length);
  $("bar").hidden = !about.pictures.some((picture) => picture.bar);
  const section = state.sections.find((each) => each.name === view.section);
  $("which").parentElement.hidden = view.which === "all" && !(section && section.rejected);
  $("which").value = view.which;
  // Frames and all pixels are of movies and micrographs.
  const canAsk = state.frames && ["images", "tilt series"].includes(view.section) && about.pictures.length;
  $("frames").hidden = !canAsk || !about.pictures.some((picture) => picture.kind === "averages");
  $("full").hidden = !canAsk;
  showWanted();
}

function press(id, pressed) {
  $(id).setAttribute("aria-pressed", pressed);
}

const isAuto = () => view.low === 0 && view.high === 100;

function showAbout() {
  $("name").textContent = about.total ? about.name :
    view.which === "all" ? "nothing has come yet" : "no image of this list";
  const pairs = [];
  if (about.total) {
    pairs.push([about.pictures.some((picture) => picture.cells) ? "Picture" : "Number",
                `${about.index + 1} of ${about.total}`]);
  }
  const first = about.pictures.find((picture) => picture.pixel_size);
  if (first) {
    const binned = first.binning > 1 ? `, shown binned ${first.binning} x` : "";
    pairs.push(["Pixel size", `${number(first.pixel_size)} Å${binned}`]);
  }
  if (about.rejected) {
    pairs.push(["Rejected", "yes", "warn"]);
  }
  const known = Object.entries(about.facts || {});
  for (const note of about.notes || []) {
    // What is told below in other words is not told twice.
    if (note !== "rejected" && !known.some(([, facts]) => facts.ctf && facts.note === note)) {
      pairs.push(["Note", note]);
    }
  }
  for (const [owner, facts] of known) {
    if (facts.ctf) {
      pairs.push(...ctfWords(facts.ctf), ["CTF of", owner]);
    }
  }
  if (about.dropped) {
    pairs.push(["Dropped", `${about.dropped} older images: the disk for temporary files is full`, "warn"]);
  }
  fill($("about"), pairs);
  showPickers();
}

const number = (value) => String(Number(Number(value).toPrecision(4)));

function ctfWords(ctf) {
  const pairs = [];
  const micrometers = (value) => number(value / 10000);
  if ("defocus_u" in ctf && "defocus_v" in ctf) {
    pairs.push(["Defocus", `${micrometers(ctf.defocus_u)} and ${micrometers(ctf.defocus_v)} µm, ` +
                           `${number(ctf.angle || 0)}°`]);
  }
  if (ctf.resolution) {
    pairs.push(["CTF fits to", `${number(ctf.resolution)} Å`]);
  }
  if ("fit_quality" in ctf) {
    pairs.push(["Fit quality", number(ctf.fit_quality)]);
  }
  if (ctf.phase_shift) {
    pairs.push(["Phase shift", `${number(ctf.phase_shift)}°`]);
  }
  return pairs;
}

function pickersNow() {
  return [...new Set(about.pictures.flatMap((picture) => Object.keys(picture.picks || {})))].sort();
}

function showPickers() {
  $("pickers").replaceChildren(...pickersNow().map((owner, place) => {
    const box = element("input", {type: "checkbox"});
    box.checked = !view.hidden.has(owner);
    box.addEventListener("change", () => {
      box.checked ? view.hidden.delete(owner) : view.hidden.add(owner);
      redraw();
    });
    const count = Math.max(...about.pictures.map((picture) => ((picture.picks || {})[owner] || []).length));
    const sign = shape("svg", {class: "sign", viewBox: "0 0 10 10"});
    sign.append(shape("circle", {cx: 5, cy: 5, r: 3.5, class: `pick${place % 6}`}));
    return element("li", {}, element("label", {}, box, " ", sign, ` ${owner || "picks"}: ${count}`));
  }));
}

// The large images.

function keyOf(picture) {
  return `${picture.kind} of ${picture.source}`;
}

function showLarge(pictures, loaded) {
  const kept = new Map([...$("large").children].map((figure) => [figure.dataset.key, figure]));
  const keys = pictures.map(keyOf);
  for (const [key, figure] of kept) {
    if (!keys.includes(key)) {
      figure.remove();
    }
  }
  loadedImages.clear();
  pictures.forEach((picture, place) => {
    const figure = kept.get(keys[place]) || newFigure(keys[place]);
    if ($("large").children[place] !== figure) {
      $("large").insertBefore(figure, $("large").children[place] || null);
    }
    if (loaded[place]) {
      loadedImages.set(loaded[place].getAttribute("src"), loaded[place]);
    }
    showPicture(figure, picture, loaded[place]);
  });
}

function newFigure(key) {
  const figure = element("figure", {}, element("div", {}, element("div", {class: "picture"}, shape("svg", {}))),
                         element("figcaption"));
  figure.dataset.key = key;
  return figure;
}

const isFull = (picture) => picture.group === "full size";

function addressOf(picture) {
  const longest = Math.max(picture.width, picture.height);
  const figure = [...$("large").children].find((each) => each.dataset.key === keyOf(picture));
  const room = Math.max(64, (figure && figure.clientWidth) || Math.min(560, $("large").clientWidth)) *
    (window.devicePixelRatio || 1) * Math.max(1, Math.min(3, picture.height / picture.width));
  const side = isFull(picture) ? longest : Math.min(longest, Math.ceil(room / SIZES) * SIZES);
  const [low, high] = picture.limits, span = high - low;
  // Spectra keep their own grey values.
  const limits = isAuto() || picture.rings ? null : [low + span * view.low / 100, low + span * view.high / 100];
  return imageAddress(picture, side, limits, "png");
}

function showPicture(figure, picture, image) {
  const full = isFull(picture);
  figure.classList.toggle("wide", full || picture.width > 2 * picture.height);
  figure.firstChild.classList.toggle("scroll", full);
  const names = [CAPTIONS[picture.kind] || picture.kind, picture.source].filter(Boolean).join(", ");
  const caption = figure.querySelector("figcaption");
  caption.textContent = [
    picture.count > 1 ? `${names}: ${view.frame + 1} of ${picture.count}` : names,
    full ? `${picture.width} x ${picture.height}` : "", picture.rejected ? "rejected" : "",
    image ? "" : "this picture did not come: trying again"].filter(Boolean).join(", ");
  caption.classList.toggle("warn", !image);
  let slider = figure.querySelector("input");
  if (picture.count > 1 && !slider) {
    slider = element("input", {type: "range", min: 0, "aria-label": "Which frame"});
    slider.addEventListener("input", () => { view.frame = Number(slider.value); soon(act); });
    figure.append(slider);
  }
  if (slider) {
    slider.max = Math.max(0, (picture.count || 1) - 1);
    slider.value = view.frame;
  }
  const room = figure.querySelector(".picture");
  const former = room.querySelector("img");
  if (image !== former) {
    if (former) {
      former.remove();
    }
    if (image) {
      room.prepend(image);
    }
  }
  if (image) {
    image.alt = `${picture.name}: ${picture.kind}`;
    image.setAttribute("width", picture.width);
    image.setAttribute("height", picture.height);
  }
  figure.dataset.address = image ? image.getAttribute("src") : "";
  if (full && image && image !== former) {
    figure.scrollIntoView({block: "nearest"});
  }
  figure.redraw = () => drawOver(figure.querySelector("svg"), picture);
  image ? figure.redraw() : figure.querySelector("svg").replaceChildren();
}

function redraw() {
  for (const figure of $("large").children) {
    if (figure.redraw) {
      figure.redraw();
    }
  }
}

function drawOver(svg, picture) {
  svg.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
  svg.replaceChildren();
  // Letters and bars keep their size, whatever the picture's is.
  const scale = picture.width / Math.max(64, svg.clientWidth || picture.width);
  const text = (x, y, words) => {
    svg.append(shape("text", {transform: `translate(${x} ${y}) scale(${scale})`}, words));
  };
  const centre = Math.min(picture.width, picture.height) / 2;
  if (shows.zeros) {
    for (const radii of picture.zeros || []) {
      svg.append(shape("path", {class: "zero", d: pathOf(radii, centre)}));
    }
  }
  if (shows.rings) {
    let labelled = 0;
    for (const [resolution, radius] of picture.rings || []) {
      svg.append(shape("circle", {class: "ring", cx: centre, cy: centre, r: radius}));
      if (radius > labelled + LABEL_PIXELS * scale) {
        labelled = radius;
        text(centre + radius * 0.71 + 2 * scale, centre - radius * 0.71 - 2 * scale, `${number(resolution)} Å`);
      }
    }
  }
  if (shows.picks) {
    const owners = pickersNow();
    for (const [owner, points] of Object.entries(picture.picks || {})) {
      if (!view.hidden.has(owner)) {
        const kind = `pick pick${owners.indexOf(owner) % 6}`;
        // The middle of the first pixel is 0.
        svg.append(...points.map(([x, y, side]) => shape("circle", {class: kind, cx: x + 0.5, cy: y + 0.5, r: side / 2})));
      }
    }
  }
  if (picture.cells) {
    const {side, columns, labels} = picture.cells;
    (labels || []).forEach((label, place) => {
      text((place % columns) * side + 2 * scale, Math.floor(place / columns) * side + 11 * scale, label);
    });
  }
  if (shows.bar && picture.bar) {
    const [nanometers, length] = picture.bar, bottom = picture.height - 12 * scale;
    svg.append(shape("rect", {class: "barBack", x: 6 * scale, y: bottom - 18 * scale,
                              width: Math.max(length, 46 * scale) + 10 * scale, height: 25 * scale}),
               shape("rect", {class: "bar", x: 10 * scale, y: bottom - 3 * scale, width: length, height: 4 * scale}));
    text(10 * scale, bottom - 6 * scale, `${nanometers} nm`);
  }
}

function pathOf(radii, centre) {
  const step = 2 * Math.PI / radii.length;
  let words = "", drawn = false;
  for (let place = 0; place <= radii.length; place += 1) {
    const radius = radii[place % radii.length];
    if (radius === null) {
      drawn = false;
      continue;
    }
    // Angles are counted counterclockwise, y goes down.
    const x = centre + radius * Math.cos(place * step), y = centre - radius * Math.sin(place * step);
    words += `${drawn ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    drawn = true;
  }
  return words;
}

// The small ones around it.

async function showStrip(signal) {
  const room = Math.max(3, Math.floor(($("strip").clientWidth - STRIP_EDGES) / THUMB_ROOM));
  const first = Math.max(0, Math.min(view.index - Math.floor(room / 2), about.total - room));
  const found = await ask("/list", {section: view.section, which: view.which, first: first, count: room},
                          signal);
  const buttons = [...$("strip").children], labels = labelsOf(found.items);
  found.items.forEach((item, place) => {
    const button = buttons[place] || newThumb();
    if (!buttons[place]) {
      $("strip").append(button);
    }
    const side = THUMB_PIXELS * Math.min(2, Math.ceil(window.devicePixelRatio || 1));
    const address = imageAddress(item, side, null, "webp"), image = button.firstChild;
    if (image.dataset.address !== address) {
      image.dataset.address = image.src = address;
    }
    button.lastChild.textContent = labels[place];
    button.title = item.name;
    button.dataset.index = item.index;
    button.dataset.number = item.number;
    button.classList.toggle("rejected", item.rejected);
    button.setAttribute("aria-current", item.index === view.index);
  });
  buttons.slice(found.items.length).forEach((button) => button.remove());
}

function labelsOf(items) {
  // What tells them apart: without what all of them begin and end with.
  const names = items.map((item) => item.name), first = names[0] || "";
  if (names.every((name) => name.length <= LABEL_LETTERS)) {
    return names;
  }
  let begin = 0, end = 0;
  const shortest = Math.min(...names.map((name) => name.length));
  while (begin < shortest && names.every((name) => name[begin] === first[begin])) {
    begin += 1;
  }
  while (end < shortest - begin && names.every((name) => name[name.length - 1 - end] === first[first.length - 1 - end])) {
    end += 1;
  }
  return items.map((item) => {
    const own = item.name.slice(begin, item.name.length - end);
    return own && names.length > 1 && own.length <= LABEL_LETTERS ? own : `no. ${item.index + 1}`;
  });
}

function newThumb() {
  const button = element("button", {type: "button"}, element("img", {alt: ""}), element("span"));
  button.addEventListener("click", () => goTo(Number(button.dataset.index), Number(button.dataset.number)));
  return button;
}

// How many there were when.

async function showGraph(signal) {
  const wait = graphDue - Date.now();
  if (graphed === about.total || wait > 0) {
    if (graphed !== about.total) {
      setTimeout(refresh, wait);
    }
    return;
  }
  graphDue = Date.now() + GRAPH_MS;
  graphed = about.total;
  const {points} = await ask("/graph", {section: view.section}, signal);
  const graph = $("graph");
  graph.querySelectorAll("svg").forEach((svg) => svg.remove());
  graph.hidden = points.length < 2 || points[0][0] === points[points.length - 1][0];
  if (graph.hidden) {
    return;
  }
  const width = 400, height = 90, [begin] = points[0], [end, total] = points[points.length - 1];
  const x = (moment) => (moment - begin) / (end - begin) * width;
  const svg = shape("svg", {viewBox: `0 -6 ${width} ${height + 24}`, role: "img"});
  svg.append(shape("title", {}, `${total} images`),
             shape("line", {x1: 0, y1: height, x2: width, y2: height}),
             shape("line", {x1: 0, y1: 0, x2: 0, y2: height}),
             shape("text", {x: 4, y: height - 3}, "0"),
             shape("path", {d: points.map(([moment, count], place) =>
               `${place ? "L" : "M"}${x(moment).toFixed(1)} ${(height - count / total * height).toFixed(1)}`).join("")}),
             shape("text", {x: 0, y: height + 14}, clock(begin, end)),
             shape("text", {x: width, y: height + 14, "text-anchor": "end"}, clock(end, begin)),
             shape("text", {x: 4, y: 10}, String(total)));
  graph.append(svg);
}

function clock(seconds, other) {
  const moment = new Date(seconds * 1000), apart = new Date(other * 1000);
  return moment.toDateString() === apart.toDateString() ? moment.toLocaleTimeString() : moment.toLocaleString();
}

// What its user does.

function goTo(index, itsNumber) {
  if (!about || !about.total) {
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
  if (!about || !about.pictures.length || wanted) {
    return;
  }
  wanted = what;
  wantedAt = Date.now();
  refusedBefore = refusalsOf(what);
  showWanted();
  view.frame = 0;
  const picture = about.pictures.find((each) => !each.rings && !each.group) || about.pictures[0];
  await fetch("/want?" + new URLSearchParams({what: what, number: picture.number}), {method: "POST"}).catch(() => null);
}

const refusalsOf = (what) => (state && state.refusals[what]) || 0;

function showWanted() {
  // Until they come, or it is said that they do not.
  const waits = wanted && Date.now() - wantedAt < WANTED_MS && refusalsOf(wanted) === refusedBefore;
  wanted = waits ? wanted : "";
  $("frames").textContent = wanted === "frames" ? "loading frames" : "frames";
  $("full").textContent = wanted === "full size" ? "loading full size" : "full size";
}

function remember() {
  // A page that is loaded again shows what it showed.
  history.replaceState(null, "", "#" + new URLSearchParams(
    {section: view.section, which: view.which, ...(view.follows ? {} : {index: view.index})}));
}

function recall() {
  const values = new URLSearchParams(location.hash.slice(1));
  if (Object.keys(WORDS).includes(values.get("section"))) {
    view.section = values.get("section");
  }
  view.which = ["kept", "rejected"].includes(values.get("which")) ? values.get("which") : "all";
  const index = Math.floor(Number(values.get("index")));
  view.follows = !values.has("index") || !Number.isFinite(index);
  view.index = view.follows ? -1 : Math.max(0, index);
  view.number = 0;
  view.name = "";
}

let sliding = 0;
const soon = (action) => { clearTimeout(sliding); sliding = setTimeout(action, 60); };

function listen() {
  $("slider").addEventListener("input", () => soon(() => goTo(Number($("slider").value))));
  $("first").addEventListener("click", () => goTo(0));
  $("place").addEventListener("change", () => $("place").value && goTo(Number($("place").value) - 1));
  window.addEventListener("hashchange", () => { recall(); act(); });
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
  $("frames").addEventListener("click", () => want("frames"));
  $("full").addEventListener("click", () => want("full size"));
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("online", connect);
  window.addEventListener("resize", () => soon(refresh));
  setInterval(watchLine, 5000);
  // A page behind others has no line of its own, of which browsers have few, but still counts as a watcher.
  setInterval(() => document.hidden && fetch("/list?count=0").catch(() => null), HIDDEN_MS);
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
                   m: () => $("frames").hidden || want("frames"), f: () => $("full").hidden || want("full size")};
  const action = isTyping ? letters[event.key.toLowerCase()] : moves[event.key] || letters[event.key.toLowerCase()];
  if (action && event.target.tagName !== "SELECT" && event.target.type !== "number") {
    event.preventDefault();
    action();
  }
}

recall();
listen();
connect();
