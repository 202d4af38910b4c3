// Health: providers, latency, errors by blame, plots over time.

import { bars, lines } from "./chart.js";
import { h, set } from "./dom.js";
import { clock, count, moment, percent, seconds, usd } from "./format.js";
import { get } from "./live.js";

const RANGES = { "15 min": 900, "1 h": 3600, "6 h": 21600, "24 h": 86400 };

function providerRows(data) {
  const figures = Object.fromEntries(data.figures.map((each) => [each.provider, each]));
  return data.status.providers.map((each) => {
    const one = figures[each.name] || {};
    const open = each.breakers.filter((breaker) => breaker.state !== "closed");
    return h(
      "tr",
      {},
      h("td", {}, h("b", {}, each.name), h("small", {}, " " + each.type)),
      h("td", {}, open.length ? h("span", { class: "badge bad" }, h("i"), `${open.length} open`) : h("span", { class: "badge good" }, h("i"), "closed")),
      h("td", { class: "n" }, count(one.calls ?? 0)),
      h("td", { class: `n ${one.errors ? "bad" : ""}` }, one.calls ? percent(one.errors / one.calls) : "–"),
      [...(one.total || [null, null]), ...(one.first || [null, null]), (one.own || [null])[0]].map((value) => h("td", { class: "n" }, seconds(value))),
      h("td", { class: "n" }, count(one.tokens_in)),
      h("td", { class: "n" }, count(one.tokens_out)),
      h("td", { class: "n" }, usd(one.cost), one.unpriced > 0 && h("span", { class: "tag bad" }, `${count(one.unpriced)} unpriced`)),
      h("td", { class: "wide" }, each.listing_fault ? h("span", { class: "warn" }, each.listing_fault) : ""),
    );
  });
}

function table(label, columns, rows, none) {
  return rows.length ? h("div", { class: "scroll" }, h("table", { "aria-label": label }, h("thead", {}, h("tr", {}, columns.map(([name, right]) => h("th", { class: right ? "n" : "" }, name)))), h("tbody", {}, rows))) : h("p", { class: "empty" }, none);
}

function plots(series) {
  if (!series) return h("p", { class: "empty" }, "Nothing is recorded, so there is no history to plot: the figures above are since the start.");
  const labels = series.at.map((at) => clock(at).slice(0, 5));
  const blames = Object.keys(series.errors);
  return h(
    "div",
    { class: "cols plots" },
    lines({ title: "Latency", labels, format: seconds, series: [{ name: "p50", values: series.p50 }, { name: "p95", values: series.p95 }] }),
    lines({ title: "Time to first token", labels, format: seconds, series: [{ name: "p50", values: series.first_p50 }, { name: "p95", values: series.first_p95 }] }),
    bars({ title: "Calls", labels, format: count, series: Object.entries(series.calls).map(([name, values]) => ({ name, values })) }),
    bars({ title: "Errors by blame", labels, format: count, series: blames.map((name) => ({ name, values: series.errors[name] })) }),
  );
}

function actRow(act, _, acts) {
  const hosts = acts.some((each) => each.host !== act.host);
  const process = act.uid === null ? "" : ` pid ${act.pid} uid ${act.uid}`;
  return h(
    "tr",
    {},
    h("td", { class: "n" }, moment(act.started)),
    h("td", {}, act.admin ? `${act.admin} (${act.by})` : act.by),
    h("td", { class: "mono" }, (act.client || act.listener) + process + (hosts ? ` at ${act.host || "–"}` : "")),
    h("td", {}, act.act, act.target && h("b", {}, ` ${act.target}`)),
    h("td", {}, h("span", { class: `tag lead ${act.outcome === "ok" ? "" : "bad"}` }, act.outcome), act.code || ""),
    h("td", { class: "wide" }, act.error || (Object.keys(act.detail).length ? JSON.stringify(act.detail) : "")),
  );
}

export function health(main, { params }) {
  const box = h("div");
  let range = RANGES[params.range] ? params.range : "1 h";
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "Range" }, Object.keys(RANGES).map((each) => h("button", { "aria-pressed": each === range, on: { click: (event) => choose(each, event.target) } }, each)));
  set(main, h("header", {}, h("h1", {}, "Health"), h("span", { class: "end" }, tabs)), box);
  let timer = 0;

  function choose(each, button) {
    range = each;
    for (const one of tabs.children) one.setAttribute("aria-pressed", one === button);
    load();
  }

  async function load() {
    clearTimeout(timer);
    timer = setTimeout(load, 5000);
    if (document.hidden) return;
    try {
      const [data, { acts }] = await Promise.all([get(`page/api/health?seconds=${RANGES[range]}`), get("page/api/acts")]);
      draw(data, acts);
    } catch (error) {
      if (!box.firstChild) set(box, h("p", { class: "empty bad" }, error.message));
    }
  }

  function draw(data, acts) {
    const lost = Object.entries(data.lost_lines).filter(([, lines_]) => lines_ > 0);
    set(
      box,
      h("section", {}, h("h2", {}, "Providers since the start"), table("Providers", [["provider"], ["circuits"], ["calls", 1], ["failed", 1], ["p50", 1], ["p95", 1], ["first p50", 1], ["first p95", 1], ["own p50", 1], ["in", 1], ["out", 1], ["cost", 1], [""]], providerRows(data), "The config names no provider.")),
      h("section", {}, h("h2", {}, `Last ${range}`), plots(data.series)),
      h("section", {}, h("h2", {}, "Errors by blame since the start"), table("Errors", [["blame"], ["code"], ["provider"], ["count", 1]], data.errors.map((each) => h("tr", {}, h("td", {}, h("span", { class: `tag lead ${each.blame === "client" ? "" : "bad"}` }, each.blame)), h("td", { class: "mono" }, each.code), h("td", {}, each.provider || "–"), h("td", { class: "n" }, count(each.count)))), "No call has failed.")),
      h("section", {}, h("h2", {}, "What admins did"), table("Acts", [["time", 1], ["who"], ["from"], ["what"], ["outcome"], [""]], acts.map(actRow), "Nobody has changed anything, and nobody was refused.")),
      lost.length > 0 && h("p", { class: "bad" }, `Log lines were lost: ${lost.map(([why, lines_]) => `${why} ${count(lines_)}`).join(", ")}.`),
    );
  }
  load();
  return () => clearTimeout(timer);
}
