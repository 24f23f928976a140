// SPDX-License-Identifier: GPL-3.0-or-later
// What happens in a project, as its events tell it. A browser that lost the line goes on by itself where it was.
"use strict";

const KINDS = ["NEW_NODE", "NEW_DATA", "PREPARED_SCAN", "END_SCAN", "CHANGED_DATA", "REMOVED", "CLOSED", "INFO"];
const MOST = 100;
const nodes = new Map();        // db_name -> {row, items}
const $ = (id) => document.getElementById(id);

function row(cells) {
  const found = document.createElement("tr");
  for (const words of cells) {
    const cell = document.createElement("td");
    cell.textContent = words;
    found.append(cell);
  }
  return found;
}

function take(event) {
  const {type, node, data} = JSON.parse(event.data), items = data && Array.isArray(data.data) ? data.data.length : 0;
  const known = nodes.get(node.db_name) || {items: 0, row: null};
  if (type === "NEW_NODE") {
    known.items = 0;
  }
  known.items += type === "NEW_DATA" ? items : type === "REMOVED" ? -items : 0;
  const state = type === "END_SCAN" ? data.data : type === "CLOSED" ? "closed" :
    node.info.status || node.info.stream_state || "";
  const next = row([node.db_name || node.name, node.type, node.db_name.includes(":") ? known.items : "", state]);
  known.row ? known.row.replaceWith(next) : $("nodes").append(next);
  known.row = next;
  nodes.set(node.db_name, known);
  const words = items ? `${items} items` : data && data.data ? String(data.data) : "";
  $("events").prepend(row([new Date().toLocaleTimeString(), type, node.db_name || node.name, words]));
  while ($("events").children.length > MOST) {
    $("events").lastChild.remove();
  }
}

const source = new EventSource("/events");
source.onopen = () => { $("line").textContent = "live"; };
source.onerror = () => { $("line").textContent = "connection lost: trying again"; };
for (const kind of KINDS) {
  source.addEventListener(kind, take);
}
source.addEventListener("full", () => { $("line").textContent = "too many readers: trying again"; });
source.addEventListener("over", () => { source.close(); $("line").textContent = "no more events"; });
source.addEventListener("gone", (event) => { source.close(); $("line").textContent = JSON.parse(event.data).error; });
