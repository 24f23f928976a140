// SPDX-License-Identifier: GPL-3.0-or-later
// What is told by the server, in words for whoever looks at it: facts in, texts out, nothing of the page.

const LABEL_LETTERS = 13;

// Section (SECTIONS of live_messages.py) -> its name on the page.
export const SECTION_WORDS = {"images": "images", "tilt series": "tilts", "particles": "particles", "classes": "class averages",
                              "volumes": "volumes"};
// Kind of picture (KINDS of kinds.py) -> what stands below it, where that is not the kind itself.
const CAPTIONS = {"averages": "frame average", "power spectra": "power spectrum", "micrographs": "micrograph",
                  "tilts": "tilt", "CTF fits": "CTF fit"};
// What can be asked for of a movie or a micrograph (live_messages.py), and in which sections.
export const FRAMES = "frames", FULL_SIZE = "full size";
export const WITH_FRAMES = ["images", "tilt series"];

export const isFull = (picture) => picture.group === FULL_SIZE;

export const round = (value) => String(Number(Number(value).toPrecision(4)));

export function captionOf(picture, frame, hasCome) {
  const names = [CAPTIONS[picture.kind] || picture.kind, picture.source].filter(Boolean).join(", ");
  return [
    picture.count > 1 ? `${names}: ${frame + 1} of ${picture.count}` : names,
    isFull(picture) ? `${picture.width} x ${picture.height}` : "", picture.rejected ? "rejected" : "",
    hasCome ? "" : "this picture did not come: trying again"].filter(Boolean).join(", ");
}

// What is known of an image: [term, words] or [term, words, class].
export function factsOf(about) {
  const pairs = [];
  if (about.total) {
    pairs.push([about.pictures.some((picture) => picture.cells) ? "Picture" : "Number",
                `${about.index + 1} of ${about.total}`]);
  }
  const first = about.pictures.find((picture) => picture.pixel_size);
  if (first) {
    const binned = first.binning > 1 ? `, shown binned ${first.binning} x` : "";
    pairs.push(["Pixel size", `${round(first.pixel_size)} Å${binned}`]);
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
  return pairs;
}

function ctfWords(ctf) {
  const pairs = [];
  const micrometers = (value) => round(value / 10000);
  if ("defocus_u" in ctf && "defocus_v" in ctf) {
    pairs.push(["Defocus", `${micrometers(ctf.defocus_u)} and ${micrometers(ctf.defocus_v)} µm, ` +
                           `${round(ctf.angle || 0)}°`]);
  }
  if (ctf.resolution) {
    pairs.push(["CTF fits to", `${round(ctf.resolution)} Å`]);
  }
  if ("fit_quality" in ctf) {
    pairs.push(["Fit quality", round(ctf.fit_quality)]);
  }
  if (ctf.phase_shift) {
    pairs.push(["Phase shift", `${round(ctf.phase_shift)}°`]);
  }
  return pairs;
}

// Short labels of images beside each other: what tells their names apart, without what all of them begin and end with.
export function labelsOf(items) {
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

// A moment (seconds since 1970), with its day where the other one is of another day.
export function clock(seconds, other) {
  const moment = new Date(seconds * 1000), apart = new Date(other * 1000);
  return moment.toDateString() === apart.toDateString() ? moment.toLocaleTimeString() : moment.toLocaleString();
}
