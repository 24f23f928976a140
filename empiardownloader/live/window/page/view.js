// SPDX-License-Identifier: GPL-3.0-or-later
// What is looked at, and how; and what the server has told of it last.

import {SECTION_WORDS} from "./words.js";

// `index`: of the image within its list, -1 for the newest; `number` and `name`: of the image that is looked at, by
// which it is found again after others have come before it; `low`, `high`: black and white in percent of the grey values
// that are shown by themselves; `hidden`: whose picks are not drawn.
export const view = {section: "images", which: "all", index: -1, number: 0, name: "", follows: true, low: 0, high: 100,
                     frame: 0, hidden: new Set()};
export const shows = {picks: true, rings: true, zeros: true, bar: true};
// `run`: of /changes; `image`: of /about and its section, once its pictures have come, too; null before.
export const told = {run: null, image: null};

export const isAuto = () => view.low === 0 && view.high === 100;

export function choose(section) {
  Object.assign(view, {section: section, number: 0, name: "", index: -1, follows: true});
}

// Whose picks there are, in an order that stays.
export function pickers() {
  return [...new Set(told.image.pictures.flatMap((picture) => Object.keys(picture.picks || {})))].sort();
}

export function remember() {
  // A page that is loaded again shows what it showed.
  history.replaceState(null, "", "#" + new URLSearchParams(
    {section: view.section, which: view.which, ...(view.follows ? {} : {index: view.index})}));
}

export function recall() {
  const values = new URLSearchParams(location.hash.slice(1));
  if (Object.keys(SECTION_WORDS).includes(values.get("section"))) {
    view.section = values.get("section");
  }
  view.which = ["kept", "rejected"].includes(values.get("which")) ? values.get("which") : "all";
  const index = Math.floor(Number(values.get("index")));
  view.follows = !values.has("index") || !Number.isFinite(index);
  view.index = view.follows ? -1 : Math.max(0, index);
  view.number = 0;
  view.name = "";
}
