// Now: streams in flight, agents, circuit breakers.

import { meter, spark } from "./chart.js";
import { h, keyed, set, text, toast } from "./dom.js";
import { ago, bytes, count, percent, seconds, usd } from "./format.js";
import { change, listen } from "./live.js";

const HISTORY = 120;
const STATES = { streaming: "good", waiting: "dim", stalled: "warn" };

function tile(label) {
  const value = h("b");
  const note = h("small");
  const plot = h("span", { class: "plot" });
  return { node: h("div", { class: "tile" }, h("span", {}, label), value, note, plot), value, note, plot, history: [] };
}

function push(one, value) {
  one.history.push(value);
  if (one.history.length > HISTORY) one.history.shift();
  set(one.plot, spark(one.history, { width: 120, height: 26 }));
}

async function act(path, body, said) {
  try {
    await change(path, body);
    toast(said);
  } catch (error) {
    toast(error.message, true);
  }
}

const name = (agent, listener) => agent || listener.replace(/^unix:.*\//, "") || "–";

function streamRow(item) {
  const cells = {};
  const cell = (key, more) => (cells[key] = h("td", more));
  const stop = h("button", { class: "danger stops", title: "End this call with an error" }, "Stop");
  stop.addEventListener("click", () => act("page/api/stop", { request: item.id }, `Stopped ${item.id}.`));
  const row = h(
    "tr",
    { "data-id": item.id },
    cell("state"),
    cell("agent", { class: "wideonly" }),
    cell("model", { class: "wide" }),
    cell("seconds", { class: "n wideonly" }),
    cell("tokens", { class: "n" }),
    cell("rate", { class: "n wideonly" }),
    cell("plot", { class: "plotcell wideonly" }),
    h("td", { class: "act" }, stop),
  );
  row.cells_ = cells;
  row.rates = [];
  return row;
}

function updateStream(row, item) {
  const c = row.cells_;
  const label = item.state === "stalled" ? `stalled ${Math.round(item.quiet)} s` : item.state;
  set(c.state, h("span", { class: `badge ${STATES[item.state]}` }, h("i"), label));
  set(c.agent, name(item.agent, item.listener));
  set(c.model, h("span", { class: "phoneonly" }, `${name(item.agent, item.listener)}: `), h("span", {}, item.model), item.provider && h("small", {}, ` ${item.provider}${item.provider_model !== item.model ? "/" + item.provider_model : ""}`), item.attempts > 1 && h("span", { class: "tag warn" }, `attempt ${item.attempts}`));
  text(c.seconds, seconds(item.seconds));
  text(c.tokens, item.tokens === null ? "–" : item.stream ? `≈ ${count(item.tokens)}` : "–");
  c.tokens.title = `${bytes(item.sent)} sent. Tokens are estimated from bytes until the call ends.`;
  text(c.rate, item.rate === null ? "–" : count(item.rate));
  row.rates.push(item.rate || 0);
  if (row.rates.length > 40) row.rates.shift();
  set(c.plot, spark(row.rates, { width: 84, height: 18 }));
}

// One row for each agent of the config, and for each other caller that was seen.
function agents(data) {
  const rows = new Map();
  for (const limit of data.limits) rows.set(limit.agent, { agent: limit.agent, limit });
  for (const seen of data.seen) {
    // A listener's callers without a name: on HTTP that is every browser, this page too.
    if (!seen.agent && seen.listener.startsWith("tcp:") && !data.streams.some((each) => each.listener === seen.listener)) continue;
    const key = seen.agent || seen.listener;
    rows.set(key, { ...(rows.get(key) || { agent: seen.agent }), seen });
  }
  const running = {};
  for (const one of data.streams) running[one.agent || one.listener] = (running[one.agent || one.listener] || 0) + 1;
  return [...rows.entries()].map(([key, row]) => ({ ...row, key, running: running[key] || 0 })).sort((a, b) => b.running - a.running || a.key.localeCompare(b.key));
}

const REACH = { isolated: ["good", "isolated"], networked: ["warn", "networked"], unknown: ["dim", "unknown"], "": ["dim", "not checked"] };

function budget(limit) {
  if (!limit) return "–";
  const { budget, spent } = limit;
  const [used, whole, format] = budget.usd !== null ? [spent.usd, budget.usd, usd] : budget.tokens !== null ? [spent.tokens, budget.tokens, count] : [null, null, null];
  if (whole === null) return h("span", { class: "dim" }, `${usd(spent.usd)}, no limit`);
  const part = whole ? used / whole : 1;
  return h("span", { class: "budget", title: `${format(used)} of ${format(whole)} per ${budget.per}` }, meter(part, { label: "share of the budget" }), h("span", { class: part >= 1 ? "bad" : "" }, percent(part)), h("small", {}, ` of ${format(whole)} ${budget.per === "total" ? "" : "a " + budget.per}`));
}

function agentRow() {
  const row = h("tr", {}, h("td"), h("td", { class: "wideonly" }), h("td"), h("td", { class: "wideonly" }), h("td", { class: "n" }), h("td"), h("td", { class: "act" }));
  return row;
}

function updateAgent(row, item) {
  const [who, process, network, since, running, share, act_] = row.children;
  const seen = item.seen;
  set(who, h("b", {}, item.agent || "no agent"), !item.agent && seen && h("small", {}, " " + seen.listener));
  text(process, seen && seen.pid !== null ? `pid ${seen.pid} · uid ${seen.uid}` : seen?.client || "–");
  const [kind, label] = seen ? REACH[seen.reach] || REACH[""] : ["dim", "not seen"];
  set(network, h("span", { class: `badge ${kind}`, title: seen?.interfaces?.join(", ") || "" }, h("i"), label));
  text(since, seen ? ago(seen.since) : "–");
  text(running, item.running || "–");
  set(share, budget(item.limit));
  if (item.running && item.agent && !act_.firstChild) {
    act_.append(h("button", { class: "danger stops", title: "Stop all its calls", on: { click: () => act("page/api/stop", { agent: item.agent }, `Stopped the calls of ${item.agent}.`) } }, "Stop all"));
  } else if (!item.running || !item.agent) set(act_);
}

function breakerRow(item) {
  return h("tr", {}, h("td"), h("td"), h("td", { class: "wide" }), h("td", { class: "n" }), h("td", { class: "act" }, h("button", { class: "changes", on: { click: () => act("page/api/reset", { provider: item.provider }, `Closed the circuits of ${item.provider}.`) } }, "Reset")));
}

function updateBreaker(row, item) {
  const [what, state, why, left] = row.children;
  set(what, h("b", {}, item.provider), item.model && h("small", {}, " " + item.model), item.key > 0 && h("small", {}, ` key ${item.key}`), item.caller && h("small", {}, ` for ${item.caller}`));
  const kind = item.state === "open" ? "bad" : item.state === "half_open" ? "warn" : "dim";
  set(state, h("span", { class: `badge ${kind}` }, h("i"), item.state === "closed" ? `${item.failures} failed` : item.state.replace("_", " ")));
  text(why, item.reason);
  text(left, item.tried_again_in_seconds === null ? "–" : `${Math.ceil(item.tried_again_in_seconds)} s`);
}

const HEADS = { time: "n wideonly", tokens: "n", "tok/s": "n wideonly", left: "n", running: "n", trend: "wideonly", agent: "wideonly", process: "wideonly", since: "wideonly" };
const table = (columns, body, label) => h("div", { class: "scroll" }, h("table", { "aria-label": label }, h("thead", {}, h("tr", {}, columns.map((each) => h("th", { class: HEADS[each] || "" }, each)))), body));

export function now(main) {
  const tiles = { flight: tile("In flight"), rate: tile("Tokens / s"), calls: tile("Calls / min"), failed: tile("Failed"), cost: tile("Cost since start") };
  const streams = h("tbody");
  const seen = h("tbody");
  const open = h("tbody");
  const none = h("p", { class: "empty" });
  const noBreakers = h("p", { class: "empty" }, "Every circuit is closed: all providers are tried.");
  const streamTable = table(["state", "agent", "model", "time", "tokens", "tok/s", "trend", ""], streams, "Streams in flight");
  const breakerTable = table(["provider", "state", "reason", "left", ""], open, "Circuit breakers");
  set(
    main,
    h("header", {}, h("h1", {}, "Now")),
    h("div", { class: "tiles" }, Object.values(tiles).map((each) => each.node)),
    h("section", {}, h("h2", {}, "Streams in flight"), streamTable, none),
    h("section", {}, h("h2", {}, "Agents"), table(["name", "process", "network", "since", "running", "budget", ""], seen, "Agents")),
    h("section", {}, h("h2", {}, "Circuit breakers"), breakerTable, noBreakers),
  );
  let before = [];
  return listen("page/api/now", (data) => {
    const states = { streaming: 0, waiting: 0, stalled: 0 };
    for (const one of data.streams) states[one.state] += 1;
    const total = data.totals;
    before.push({ at: Date.now(), ...total });
    before = before.filter((each) => Date.now() - each.at < 61000);
    if (before.length > 1 && before[0].calls > total.calls) before = before.slice(-1);
    const passed = Math.max(1, (Date.now() - before[0].at) / 1000);
    const perMinute = before.length > 1 ? ((total.calls - before[0].calls) / passed) * 60 : 0;
    const rate = data.streams.reduce((sum, each) => sum + (each.rate || 0), 0);
    text(tiles.flight.value, data.streams.length);
    const idle = ["stalled", "waiting"].filter((state) => states[state]);
    set(tiles.flight.note, data.streams.length === 0 ? "nothing runs" : idle.length === 0 ? "all are streaming" : idle.map((state, i) => [i > 0 && " · ", h("span", { class: state === "stalled" ? "warn" : "" }, `${states[state]} ${state}`)]));
    push(tiles.flight, data.streams.length);
    text(tiles.rate.value, count(Math.round(rate)));
    text(tiles.rate.note, `${count(total.tokens_out)} out since start`);
    push(tiles.rate, rate);
    text(tiles.calls.value, count(Math.round(perMinute)));
    text(tiles.calls.note, `${count(total.calls)} since start`);
    push(tiles.calls, perMinute);
    text(tiles.failed.value, count(total.failed));
    text(tiles.failed.note, total.calls ? `${percent(total.failed / total.calls)} of ${count(total.calls)}` : "no call yet");
    tiles.failed.value.className = total.failed ? "bad" : "";
    push(tiles.failed, before.length > 1 ? total.failed - before[before.length - 2].failed : 0);
    text(tiles.cost.value, usd(total.cost));
    set(tiles.cost.note, total.unpriced ? h("span", { class: "bad" }, `${count(total.unpriced)} calls unpriced`) : `up for ${seconds(data.uptime)}`);
    push(tiles.cost, before.length > 1 ? total.cost - before[before.length - 2].cost : 0);
    keyed(streams, data.streams, (each) => each.id, streamRow, updateStream);
    streamTable.hidden = !data.streams.length;
    none.hidden = data.streams.length > 0;
    text(none, "No call is in flight.");
    keyed(seen, agents(data), (each) => each.key, agentRow, updateAgent);
    keyed(open, data.breakers, (each) => [each.provider, each.key, each.model, each.endpoint, each.caller].join("\n"), breakerRow, updateBreaker);
    breakerTable.hidden = !data.breakers.length;
    noBreakers.hidden = data.breakers.length > 0;
  });
}
