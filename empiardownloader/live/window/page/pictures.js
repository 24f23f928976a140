// SPDX-License-Identifier: GPL-3.0-or-later
// The large pictures of the image that is looked at, and the strip of small ones around it. Each is asked for in the
// size it is shown in.

import {$, element, shape} from "./dom.js";
import {drawOver} from "./drawing.js";
import {ask} from "./line.js";
import {isAuto, pickers, shows, told, view} from "./view.js";
import {captionOf, isFull, labelsOf} from "./words.js";

const SIZES = 128;              // pictures are asked for in steps of so many pixels, so that a cache has them
const THUMB_PIXELS = 96, THUMB_ROOM = 104, STRIP_EDGES = 8;

const loadedImages = new Map();     // of what is on the page: address -> image

function imageAddress(picture, side, limits, form) {
  const values = {side: side};
  if (limits) {
    values.low = limits[0];
    values.high = limits[1];
  }
  return `/image/${told.run.run}/${picture.number}-${picture.version}.${form}?` + new URLSearchParams(values);
}

// The images of some pictures, in their order, null for one that does not come.
export function loadAll(pictures, signal) {
  return Promise.all(pictures.map((picture) => load(addressOf(picture), signal)));
}

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

function keyOf(picture) {
  return `${picture.kind} of ${picture.source}`;
}

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

// `loaded`: of loadAll; `onFrame`: called with the frame that is wanted.
export function showLarge(pictures, loaded, onFrame) {
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
    showSlider(figure, picture, onFrame);
    showPicture(figure, picture, loaded[place]);
  });
}

function newFigure(key) {
  const figure = element("figure", {}, element("div", {}, element("div", {class: "picture"}, shape("svg", {}))),
                         element("figcaption"));
  figure.dataset.key = key;
  return figure;
}

function showSlider(figure, picture, onFrame) {
  let slider = figure.querySelector("input");
  if (picture.count > 1 && !slider) {
    slider = element("input", {type: "range", min: 0, "aria-label": "Which frame"});
    slider.addEventListener("input", () => onFrame(Number(slider.value)));
    figure.append(slider);
  }
  if (slider) {
    slider.max = Math.max(0, (picture.count || 1) - 1);
    slider.value = view.frame;
  }
}

function showPicture(figure, picture, image) {
  const full = isFull(picture);
  figure.classList.toggle("wide", full || picture.width > 2 * picture.height);
  figure.firstChild.classList.toggle("scroll", full);
  const caption = figure.querySelector("figcaption");
  caption.textContent = captionOf(picture, view.frame, Boolean(image));
  caption.classList.toggle("warn", !image);
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
  figure.redraw = () => drawOver(figure.querySelector("svg"), picture, shows, pickers(), view.hidden);
  image ? figure.redraw() : figure.querySelector("svg").replaceChildren();
}

// What is drawn over the pictures, anew.
export function redraw() {
  for (const figure of $("large").children) {
    if (figure.redraw) {
      figure.redraw();
    }
  }
}

// `goTo`: called with index and number of the image that is wanted.
export async function showStrip(signal, goTo) {
  const room = Math.max(3, Math.floor(($("strip").clientWidth - STRIP_EDGES) / THUMB_ROOM));
  const first = Math.max(0, Math.min(view.index - Math.floor(room / 2), told.image.total - room));
  const found = await ask("/list", {section: view.section, which: view.which, first: first, count: room},
                          signal);
  const buttons = [...$("strip").children], labels = labelsOf(found.items);
  found.items.forEach((item, place) => {
    const button = buttons[place] || newThumb(goTo);
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

function newThumb(goTo) {
  const button = element("button", {type: "button"}, element("img", {alt: ""}), element("span"));
  button.addEventListener("click", () => goTo(Number(button.dataset.index), Number(button.dataset.number)));
  return button;
}
