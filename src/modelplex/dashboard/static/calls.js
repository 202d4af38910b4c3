// Calls: the newest first, as they end, with the filter in the URL.

import { remember } from "./app.js";
import { details } from "./detail.js";
import { h, set, text } from "./dom.js";
import { clock, count, full, seconds, usd } from "./format.js";
import { get, listen, query } from "./live.js";
import { fillCells, virtualList } from "./list.js";

const MOST = 10000;
const CATCH_UP_MS = 1500;
const COLUMNS = [
  { label: "time" },
  { label: "agent" },
  { label: "model or tool", className: "grow" },
  { label: "provider" },
  { label: "outcome" },
  { label: "first", className: "n" },
  { label: "total", className: "n" },
  { label: "in", className: "n" },
  { label: "out", className: "n" },
  { label: "cost", className: "n" },
  { label: "notes", className: "notes" },
];
const OUTCOMES = { ok: "good", error: "bad", broken: "bad", refused: "bad", tool_error: "warn", client_closed: "dim" };

export function outcome(row) {
  const label = row.outcome === "ok" ? (row.status && row.status !== 200 ? row.status : "ok") : row.code || row.outcome;
  return h("span", { class: `badge ${OUTCOMES[row.outcome] || "bad"}`, title: row.error || row.outcome }, h("i"), label);
}

// A tool has the name of its server where a model has its provider.
export const nameOf = (row) => (row.kind === "tool" ? row.tool : row.requested_model);
export const sourceOf = (row) => (row.kind === "tool" ? row.server : row.provider);
export const isUnpriced = (row) => row.cost === null && Boolean(row.tokens_in || row.tokens_out);

export function cost(row) {
  if (isUnpriced(row)) return h("span", { class: "bad", title: "No price of this model is known" }, "unpriced");
  return usd(row.cost);
}

export function notes(row) {
  return [
    row.attempts > 1 && h("span", { class: "tag warn" }, `${row.attempts} attempts`),
    row.stripped > 0 && h("span", { class: "tag warn" }, `${row.stripped} stripped`),
    row.changes > 0 && h("span", { class: "tag" }, `${row.changes} changed`),
    row.cache_read > 0 && h("span", { class: "tag good" }, `${count(row.cache_read)} cached`),
  ];
}

function fill(cells, row) {
  fillCells(cells, [
    clock(row.started),
    row.agent || h("span", { class: "dim" }, row.listener.replace(/^unix:.*\//, "")),
    [row.kind === "tool" && h("span", { class: "tag" }, "tool"), nameOf(row), row.model && row.model !== row.requested_model && h("small", {}, ` → ${row.model}`)],
    sourceOf(row),
    outcome(row),
    seconds(row.first_output),
    seconds(row.seconds),
    count(row.tokens_in),
    count(row.tokens_out),
    cost(row),
    notes(row),
  ]);
}

export function calls(main, { params }) {
  const filter = { kind: "", agent: "", model: "", provider: "", outcome: "", only: "", q: "", ...params };
  const selected = filter.call || "";
  delete filter.call;
  let rows = [];
  let known = new Set();
  let paused = false;
  let waiting = [];
  let done = false;
  let last = null;
  let isLoading = false;
  let stop = () => {};
  let ended = 0;
  let version = 0;

  const status = h("span", { class: "dim" });
  const pause = h("button", { "aria-pressed": "false", title: "p" }, "Pause");
  const side = h("aside", { hidden: true, "aria-label": "Call" });
  const list = virtualList({ columns: COLUMNS, label: "Calls, the newest first", fill, open, more, classOf: (row) => (row.outcome === "ok" ? "" : "failed") });
  const none = h("p", { class: "empty", hidden: true });

  const field = (name, placeholder, type = "text") => h("input", { type, placeholder, value: filter[name], "aria-label": placeholder, on: { input: (event) => apply({ [name]: event.target.value.trim() }) } });
  const choice = (name, label, options) => {
    const node = h("select", { "aria-label": label, on: { change: (event) => apply({ [name]: event.target.value }) } }, options.map(([value, shown]) => h("option", { value }, shown)));
    node.value = filter[name];
    return node;
  };
  const fields = h(
    "form",
    { class: "filters", on: { submit: (event) => event.preventDefault() } },
    field("q", "Search  /", "search"),
    choice("kind", "Kind", [["", "models and tools"], ["model", "models"], ["tool", "tools"]]),
    choice("only", "Only", [["", "all calls"], ["failed", "failed"], ["unpriced", "unpriced"], ["stripped", "stripped"], ["changed", "changed"], ["retried", "retried"]]),
    field("agent", "agent"),
    field("model", "model"),
    field("provider", "provider"),
  );
  set(main, h("header", {}, h("h1", {}, "Calls"), fields, h("span", { class: "end" }, status, pause)), h("div", { class: "split" }, h("div", { class: "listbox" }, list.node, none), side));

  let late = 0;
  let timer = 0;
  function apply(changed) {
    Object.assign(filter, changed);
    remember("calls", filter);
    clearTimeout(timer);
    timer = setTimeout(start, 200);
  }

  function open(row) {
    list.choose(row.id);
    remember("calls", { ...filter, call: row.id });
    details(side, row.id, row, () => {
      side.hidden = true;
      remember("calls", filter);
      list.focus();
    });
  }

  function put(fresh, atEnd = false) {
    const added = fresh.filter((row) => !known.has(row.id));
    for (const row of added) known.add(row.id);
    rows = atEnd ? rows.concat(added) : added.concat(rows);
    if (rows.length > MOST) {
      for (const row of rows.slice(MOST)) known.delete(row.id);
      rows = rows.slice(0, MOST);
      done = true;
    }
    list.show(rows, atEnd ? 0 : added.length);
    none.hidden = rows.length > 0;
    describe();
  }

  function describe() {
    text(status, paused ? `paused, ${full(waiting.length)} new` : `${full(rows.length)} shown${ended ? `, ${count(ended)} / s` : ""}`);
  }

  async function more() {
    if (isLoading || done) return;
    isLoading = true;
    const mine = version;
    try {
      const found = await get(`page/api/calls${query({ ...filter, before: last ? last.join(",") : "" })}`);
      if (mine !== version) return;
      last = found.last;
      done = !last;
      put(found.rows, true);
      text(none, found.stored ? "No call matches." : "Nothing is recorded: calls appear here as they end.");
    } catch (error) {
      text(status, error.message);
      done = true;
    } finally {
      if (mine === version) isLoading = false;
    }
  }

  function start() {
    stop();
    version += 1;
    rows = [];
    known = new Set();
    waiting = [];
    done = isLoading = false;
    last = null;
    list.show(rows);
    list.body.scrollTop = 0;
    more();
    stop = listen(`page/api/calls/live${query(filter)}`, (sample) => {
      ended = Math.round(sample.ended * 2);
      const fresh = sample.rows.reverse();
      if (paused) waiting = fresh.concat(waiting).slice(0, MOST);
      else if (fresh.length) put(fresh);
      describe();
    }, () => {
      // What ended just before is not in the store yet, and what ended while the gateway was away was not sent.
      clearTimeout(late);
      late = setTimeout(catchUp, CATCH_UP_MS);
    });
  }

  async function catchUp() {
    const mine = version;
    const found = await get(`page/api/calls${query(filter)}`).catch(() => null);
    if (!found || mine !== version) return;
    const missing = found.rows.filter((row) => !known.has(row.id));
    if (!missing.length) return;
    for (const row of missing) known.add(row.id);
    rows = rows.concat(missing).sort((a, b) => b.started - a.started);
    list.show(rows);
    none.hidden = true;
    describe();
  }

  function turn() {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    text(pause, paused ? "Go on" : "Pause");
    if (!paused) {
      put(waiting);
      waiting = [];
    }
    describe();
  }
  pause.addEventListener("click", turn);

  function keys(event) {
    if (event.target.closest("input, select")) return;
    if (event.key === "p") turn();
    else if (event.key === "Escape" && !side.hidden) side.querySelector("button.close")?.click();
    else if ("jk".includes(event.key) && document.activeElement !== list.body) {
      list.focus();
      list.body.dispatchEvent(new KeyboardEvent("keydown", { key: event.key }));
    }
  }
  document.addEventListener("keydown", keys);
  start();
  if (selected) open({ id: selected });
  return () => {
    stop();
    clearTimeout(late);
    clearTimeout(timer);
    list.close();
    document.removeEventListener("keydown", keys);
  };
}
