// One run: its conversation as a tree with the tool calls in the same timeline, search, replay, export.

import { remember } from "./app.js";
import { turn } from "./call.js";
import { cost, outcome } from "./calls.js";
import { summary } from "./detail.js";
import { h, set, text, toast } from "./dom.js";
import { count, moment, seconds, usd } from "./format.js";
import { get, query } from "./live.js";
import { fillCells, virtualList } from "./list.js";

const REPLAY_MS = 1200;
const COLUMNS = [{ label: "after" }, { label: "call", className: "grow" }, { label: "outcome" }, { label: "timeline", className: "time" }, { label: "total", className: "n" }, { label: "out", className: "n" }, { label: "cost", className: "n" }];

// Each call with its depth: a next turn stays at its parent's, and a retry at that of the retry before; everything else is
// one deeper.
export function tree(calls) {
  const known = new Map(calls.map((each) => [each.row.id, each]));
  const depth = new Map();
  return calls.map((each) => {
    const parent = known.has(each.row.parent) ? each.row.parent : null;
    const base = parent ? depth.get(parent) || 0 : 0;
    const again = each.row.relation === "retry" && parent && known.get(parent).row.relation === "retry";
    const deep = !parent || again || ["turn", "root"].includes(each.row.relation) ? base : base + 1;
    depth.set(each.row.id, deep);
    return { ...each, id: each.row.id, depth: deep };
  });
}

export function run(main, { id, params }) {
  const path = `page/api/run/${encodeURIComponent(id)}`;
  const side = h("aside", { "aria-label": "Call" });
  const facts = h("p", { class: "links" });
  const search = h("input", { type: "search", placeholder: "Search all texts  /", "aria-label": "Search", value: params.q || "" });
  const hits = h("span", { class: "dim" });
  const play = h("button", { title: "Show one call after the other" }, "▶ Replay");
  const exports = h("span", { class: "exports" }, ["jsonl", "otlp", "inspect"].map((form) => h("a", { href: `${path}/export?format=${form}`, download: true }, form)));
  const none = h("p", { class: "empty", hidden: true });
  let calls = [];
  let found = null;
  let began = 0;
  let whole = 1;
  let timer = 0;
  let chosen = params.call || "";

  const list = virtualList({ columns: COLUMNS, label: "Calls of the run, the oldest first", fill, open, height: 44, classOf: (each) => (found && !found.has(each.id) ? "faded" : "") });
  set(main, h("header", {}, h("h1", {}, "Run"), h("span", { class: "mono dim" }, id), h("span", { class: "end" }, hits, search, play, "Export:", exports)), facts, h("div", { class: "split" }, h("div", { class: "listbox" }, list.node, none), side));

  function fill(cells, each) {
    const row = each.row;
    const start = ((row.started - began) / whole) * 100;
    const named = row.kind === "tool" ? [h("span", { class: "tag" }, "tool"), h("b", {}, row.tool)] : [h("b", {}, row.requested_model), !["turn", "root"].includes(row.relation) && h("span", { class: "tag warn" }, row.relation), row.attempts > 1 && h("span", { class: "tag" }, `${row.attempts} attempts`)];
    fillCells(cells, [
      `+${seconds(Math.max(0, row.started - began))}`,
      h("span", { class: "node", style: { "padding-left": `${Math.min(each.depth, 8) * 16}px` } }, h("span", {}, named), h("small", {}, each.says || each.asks || `${row.messages} messages`)),
      outcome(row),
      h("span", { class: "track" }, h("i", { class: row.kind === "tool" ? "first" : row.outcome === "ok" ? "fine" : "failed", style: { left: `${Math.min(99.4, start)}%`, width: `${Math.max(0.6, Math.min(100 - start, (row.seconds / whole) * 100))}%` } })),
      seconds(row.seconds),
      count(row.tokens_out),
      row.kind === "tool" ? "" : cost(row),
    ]);
  }

  const close = () => {
    side.hidden = true;
    list.focus();
  };

  async function open(each) {
    chosen = each.id;
    side.hidden = false;
    remember(`run/${encodeURIComponent(id)}`, { call: chosen, q: search.value });
    list.choose(each.id);
    let data;
    try {
      data = await get(`page/api/call/${encodeURIComponent(each.id)}/content`);
    } catch (error) {
      set(side, h("p", { class: "bad" }, error.message));
      return;
    }
    if (chosen !== each.id) return;
    const fresh = { content: { ...data.content, parts: data.content.parts.filter((part) => part.is_new && part.kind === "message") } };
    set(side, h("header", {}, h("b", { class: "mono" }, each.id), h("a", { href: `#/call/${encodeURIComponent(each.id)}` }, "Open the request"), h("button", { class: "quiet close", title: "Close", on: { click: close } }, "✕")), h("p", { class: "dim" }, `${moment(each.row.started)} · ${each.row.relation}${each.row.parent ? ` of ${each.row.parent}` : ""}`), turn(fresh), h("details", {}, h("summary", {}, "Facts"), summary(data.call)));
  }

  async function load() {
    let data;
    try {
      data = await get(path);
    } catch (error) {
      set(main, h("p", { class: "empty bad" }, error.message));
      return;
    }
    const one = data.run;
    calls = tree(data.calls || []);
    began = calls.length ? calls[0].row.started : one.started;
    whole = Math.max(0.001, ...calls.map((each) => each.row.started - began + each.row.seconds));
    set(facts, h("b", {}, one.agent || "no agent"), one.command && h("code", { class: "command", title: one.command }, one.command), one.repository && `${one.repository}${one.branch ? ` @ ${one.branch}` : ""}`, Object.entries(one.tags).map(([name, value]) => h("span", { class: "tag" }, `${name}=${value}`)), h("span", {}, `${moment(one.started)}, ${seconds(whole)}`), h("span", {}, `${count(one.calls)} calls, ${count(one.tool_calls)} tool calls, ${count(one.tokens_in)} in, ${count(one.tokens_out)} out, ${usd(one.cost)}`), one.unpriced > 0 && h("span", { class: "bad" }, `${one.unpriced} unpriced`), one.failed + one.refused > 0 && h("span", { class: "bad" }, `${one.failed + one.refused} failed or refused`));
    none.hidden = calls.length > 0;
    text(none, "The run has no calls yet.");
    list.show(calls);
    const first = calls.find((each) => each.id === chosen) || calls[0];
    // On a phone what is opened covers the list.
    side.hidden = true;
    if (first && (chosen || matchMedia("(min-width: 761px)").matches)) open(first);
    if (search.value) look();
  }

  let searches = 0;
  async function look() {
    const mine = ++searches;
    if (!search.value.trim()) {
      found = null;
      text(hits, "");
    } else {
      const answer = await get(`${path}/search${query({ q: search.value.trim() })}`).catch((error) => toast(error.message, true));
      if (mine !== searches || !answer) return;
      found = new Set(answer.found || []);
      text(hits, `${found.size} of ${calls.length}`);
    }
    calls = calls.map((each) => ({ ...each }));
    list.show(calls);
  }
  search.addEventListener("input", () => {
    clearTimeout(search.timer);
    search.timer = setTimeout(look, 250);
  });
  search.addEventListener("keydown", (event) => {
    const hit = event.key === "Enter" && found && calls.find((each) => found.has(each.id) && calls.indexOf(each) > calls.findIndex((one) => one.id === chosen));
    if (hit) open(hit);
  });

  function stop() {
    clearInterval(timer);
    timer = 0;
    text(play, "▶ Replay");
  }
  play.addEventListener("click", () => {
    if (timer) return stop();
    text(play, "■ Stop");
    let at = calls.findIndex((each) => each.id === chosen);
    if (at >= calls.length - 1) at = -1;
    const step = () => {
      at += 1;
      if (at >= calls.length) return stop();
      open(calls[at]);
      list.body.scrollTop = Math.max(0, at * 44 - list.body.clientHeight / 2);
    };
    step();
    timer = setInterval(step, REPLAY_MS);
  });
  load();
  return () => {
    stop();
    list.close();
  };
}
