// SPDX-License-Identifier: GPL-3.0-or-later
// The line to the server. It tells by /changes that there is something new, in few words; all else is asked for.

import {$} from "./dom.js";

const SILENT_MS = 40000;        // the server gives a sign of life every 15 s; after this the line is taken to be dead
const AGAIN_MS = 3000, LOOK_MS = 5000;
const HIDDEN_MS = 60000;

let source = null, heard = 0, take = null;

export async function ask(path, values, signal) {
  const answer = await fetch(path + "?" + new URLSearchParams(values), {signal: signal});
  if (!answer.ok) {
    throw new Error(path + ": " + answer.status);
  }
  return answer.json();
}

// From now on `taker` gets each new state of the run.
export function listen(taker) {
  take = taker;
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("online", connect);
  setInterval(watch, LOOK_MS);
  // A page behind others has no line of its own, of which browsers have few, but still counts as a watcher.
  setInterval(() => document.hidden && fetch("/list?count=0").catch(() => null), HIDDEN_MS);
  connect();
}

function connect() {
  disconnect();
  heard = Date.now();
  source = new EventSource("/changes");
  source.addEventListener("state", (event) => {
    heard = Date.now();
    tell("");
    take(JSON.parse(event.data));
  });
  source.addEventListener("alive", () => {
    heard = Date.now();
    tell("");
  });
  source.addEventListener("full", () => tell("too many pages watch: trying again"));
  source.onerror = () => {
    tell("connection lost: trying again");
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
    tell("the viewer was started anew with another token: open the address that it printed");
  }
}

function tell(problem) {
  $("line").textContent = problem || "connected";
  $("line").classList.toggle("lost", Boolean(problem));
}

function watch() {
  // A line may be dead without a word, after sleep say.
  if (source && Date.now() - heard > SILENT_MS) {
    connect();
  }
}
