// SPDX-License-Identifier: GPL-3.0-or-later
// Elements of the page. All that comes from files and projects is put in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

export function element(name, attributes, ...children) {
  const found = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    found.setAttribute(key, value);
  }
  found.append(...children);
  return found;
}

export function shape(name, attributes, text) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    found.setAttribute(key, value);
  }
  if (text !== undefined) {
    found.textContent = text;
  }
  return found;
}

export function press(id, pressed) {
  $(id).setAttribute("aria-pressed", pressed);
}

// Pairs of a term and what is said of it, into a <dl>; a third word is the class of what is said.
export function fill(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([term, words, kind]) => {
    const both = [element("dt", {}, term), element("dd", kind ? {class: kind} : {}, words)];
    return list.id === "head" ? [element("div", {}, ...both)] : both;
  }));
}
