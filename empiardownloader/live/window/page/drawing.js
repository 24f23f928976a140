// SPDX-License-Identifier: GPL-3.0-or-later
// What is drawn: over a picture its picks, rings, zeros, labels and bar; and how many images there were when.

import {shape} from "./dom.js";
import {clock, round} from "./words.js";

const LABEL_PIXELS = 20;        // between the labels of two rings
export const PICK_COLOURS = 6;
const GRAPH_WIDTH = 400, GRAPH_HEIGHT = 90;

// `shows`: which of picks, rings, zeros and bar; `owners`: of picks, in the order of their colours; `hidden`: a Set of
// those whose picks are not drawn.
export function drawOver(svg, picture, shows, owners, hidden) {
  svg.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
  // Letters and bars keep their size, whatever the picture's is.
  const scale = picture.width / Math.max(64, svg.clientWidth || picture.width);
  svg.replaceChildren(
    ...(shows.zeros ? zerosOf(picture) : []), ...(shows.rings ? ringsOf(picture, scale) : []),
    ...(shows.picks ? picksOf(picture, owners, hidden) : []), ...cellLabels(picture, scale),
    ...(shows.bar && picture.bar ? barOf(picture, scale) : []));
}

const centreOf = (picture) => Math.min(picture.width, picture.height) / 2;

const text = (x, y, scale, words) => shape("text", {transform: `translate(${x} ${y}) scale(${scale})`}, words);

function zerosOf(picture) {
  return (picture.zeros || []).map((radii) => shape("path", {class: "zero", d: pathOf(radii, centreOf(picture))}));
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

function ringsOf(picture, scale) {
  const centre = centreOf(picture), drawn = [];
  let labelled = 0;
  for (const [resolution, radius] of picture.rings || []) {
    drawn.push(shape("circle", {class: "ring", cx: centre, cy: centre, r: radius}));
    if (radius > labelled + LABEL_PIXELS * scale) {
      labelled = radius;
      drawn.push(text(centre + radius * 0.71 + 2 * scale, centre - radius * 0.71 - 2 * scale, scale,
                      `${round(resolution)} Å`));
    }
  }
  return drawn;
}

function picksOf(picture, owners, hidden) {
  return Object.entries(picture.picks || {}).filter(([owner]) => !hidden.has(owner)).flatMap(([owner, points]) => {
    const kind = `pick pick${owners.indexOf(owner) % PICK_COLOURS}`;
    // The middle of the first pixel is 0.
    return points.map(([x, y, side]) => shape("circle", {class: kind, cx: x + 0.5, cy: y + 0.5, r: side / 2}));
  });
}

function cellLabels(picture, scale) {
  if (!picture.cells) {
    return [];
  }
  const {side, columns, labels} = picture.cells;
  return (labels || []).map((label, place) =>
    text((place % columns) * side + 2 * scale, Math.floor(place / columns) * side + 11 * scale, scale, label));
}

function barOf(picture, scale) {
  const [nanometers, length] = picture.bar, bottom = picture.height - 12 * scale;
  return [shape("rect", {class: "barBack", x: 6 * scale, y: bottom - 18 * scale,
                         width: Math.max(length, 46 * scale) + 10 * scale, height: 25 * scale}),
          shape("rect", {class: "bar", x: 10 * scale, y: bottom - 3 * scale, width: length, height: 4 * scale}),
          text(10 * scale, bottom - 6 * scale, scale, `${nanometers} nm`)];
}

// Of points [moment, how many], the first and the last at different moments.
export function graphOf(points) {
  const width = GRAPH_WIDTH, height = GRAPH_HEIGHT, [begin] = points[0], [end, total] = points[points.length - 1];
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
  return svg;
}
