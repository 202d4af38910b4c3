// Spend: what models cost, by agent, model, provider, tag and, of several, host, and what is left of budgets.

import { bars, meter } from "./chart.js";
import { remember } from "./app.js";
import { h, set } from "./dom.js";
import { count, percent, usd } from "./format.js";
import { get } from "./live.js";

const RANGES = [["day", "24 h"], ["week", "7 days"], ["month", "30 days"]];
const MOST = 7;
const TITLES = { agent: "By agent", model: "By model", provider: "By provider", tag: "By tag", host: "By host" };

// The largest series by themselves, and the rest together.
function series(of) {
  const all = Object.entries(of).map(([name, values]) => ({ name: name || "none", values, sum: values.reduce((a, b) => a + b, 0) })).sort((a, b) => b.sum - a.sum);
  const few = all.slice(0, MOST);
  const rest = all.slice(MOST);
  if (rest.length) few.push({ name: `${rest.length} others`, values: rest[0].values.map((_, i) => rest.reduce((sum, each) => sum + each.values[i], 0)) });
  return few;
}

function table(name, rows) {
  const whole = rows.reduce((sum, row) => sum + row.cost, 0);
  return h(
    "section",
    {},
    h("h2", {}, TITLES[name]),
    rows.length
      ? h("div", { class: "scroll" }, h("table", { "aria-label": TITLES[name] }, h("thead", {}, h("tr", {}, h("th", {}, name), ["calls", "in", "out", "cost"].map((each) => h("th", { class: "n" }, each)), h("th"))), h("tbody", {}, rows.slice(0, 30).map((row) => h("tr", {}, h("td", { class: "wide" }, row.group[name] || h("span", { class: "dim" }, name === "agent" ? "no agent" : name === "tag" ? "no tag" : "none")), h("td", { class: "n" }, count(row.calls)), h("td", { class: "n" }, count(row.tokens_in)), h("td", { class: "n" }, count(row.tokens_out)), h("td", { class: "n" }, usd(row.cost), row.unpriced > 0 && h("span", { class: "tag bad" }, `${count(row.unpriced)} unpriced`)), h("td", {}, meter(whole ? row.cost / whole : 0, { label: "share", limit: false })))))))
      : h("p", { class: "empty" }, "Nothing was spent."),
  );
}

function budgets(limits) {
  const rows = limits.filter((each) => each.budget.usd !== null || each.budget.tokens !== null);
  if (!rows.length) return h("p", { class: "empty" }, "No agent has a budget.");
  return h(
    "div",
    { class: "scroll" },
    h("table", { "aria-label": "Budgets" }, h("thead", {}, h("tr", {}, h("th", {}, "agent"), h("th", { class: "n" }, "spent"), h("th", { class: "n" }, "budget"), h("th", {}, "share"))), h("tbody", {}, rows.map((each) => {
      const [used, whole, format] = each.budget.usd !== null ? [each.spent.usd, each.budget.usd, usd] : [each.spent.tokens, each.budget.tokens, count];
      const part = whole ? used / whole : 1;
      return h("tr", {}, h("td", {}, h("b", {}, each.agent)), h("td", { class: "n" }, format(used)), h("td", { class: "n" }, `${format(whole)}${each.budget.per === "total" ? " in all" : ` a ${each.budget.per}`}`), h("td", {}, meter(part, { label: "share of the budget" }), " ", h("span", { class: part >= 1 ? "bad" : "" }, percent(part))));
    }))),
  );
}

// What was used of a budget at each step: of a day's by days as it is, else the sum since the period
// began, counted back from what is spent now. Steps before the period are null.
export function used(values, at, { per, spent, step, now }) {
  if (per === "day" && step === 86400) return values;
  const period = (unix) => (per === "total" ? "" : new Date(unix * 1000).toISOString().slice(0, per === "day" ? 10 : 7));
  const sums = values.map(() => null);
  let left = spent;
  for (let i = values.length - 1; i >= 0 && period(at[i]) === period(now); i -= 1) {
    sums[i] = Math.max(0, left);
    left -= values[i];
  }
  return sums;
}

// A plot for each agent with a budget, with the budget as a line.
function budgetPlots(data, labels) {
  const { at, agents } = data.spending;
  const rows = data.limits.agents.filter((each) => each.budget.usd !== null || each.budget.tokens !== null);
  if (!rows.length) return null;
  const plots = rows.slice(0, MOST).map((each) => {
    const [unit, name, format] = each.budget.usd !== null ? ["usd", "cost", usd] : ["tokens", "tokens", count];
    const { per } = each.budget;
    const values = used(agents[each.agent]?.[name] || at.map(() => 0), at, { per, spent: each.spent[unit], step: at[1] - at[0], now: data.now });
    const whole = each.budget[unit];
    return bars({ title: `Budget of ${each.agent}`, labels, format, series: [{ name: unit === "usd" ? "US dollars" : "tokens", values }], limit: { value: whole, label: `${format(whole)}${per === "total" ? " in all" : ` a ${per}`}` } });
  });
  return h("div", { class: "cols plots" }, plots);
}

function tile(label, value, note, bad) {
  return h("div", { class: "tile" }, h("span", {}, label), h("b", {}, value), h("small", { class: bad ? "bad" : "" }, note));
}

export function spend(main, { params }) {
  const box = h("div");
  let range = RANGES.some(([name]) => name === params.range) ? params.range : "week";
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "Range" }, RANGES.map(([name, label]) => h("button", { "aria-pressed": name === range, on: { click: (event) => choose(name, event.target) } }, label)));
  set(main, h("header", {}, h("h1", {}, "Spend"), h("span", { class: "end" }, tabs)), box);
  let timer = 0;

  function choose(name, button) {
    range = name;
    remember("spend", { range });
    for (const each of tabs.children) each.setAttribute("aria-pressed", each === button);
    load();
  }

  async function load() {
    clearTimeout(timer);
    timer = setTimeout(load, 15000);
    if (document.hidden) return;
    try {
      draw(await get(`page/api/spend?range=${range}`));
    } catch (error) {
      if (!box.firstChild) set(box, h("p", { class: "empty bad" }, error.message));
    }
  }

  function draw(data) {
    const limits = h("section", {}, h("h2", {}, "Budgets"), budgets(data.limits.agents));
    if (!data.spending) {
      set(box, limits, h("p", { class: "empty" }, "Nothing is recorded here: what was spent before the start is not known."));
      return;
    }
    const { by, at, cost, tokens } = data.spending;
    const sum = (name) => by.provider.reduce((total, row) => total + row[name], 0);
    const unpriced = sum("unpriced");
    const day = (unix) => (data.days === 1 ? `${String(new Date(unix * 1000).getHours()).padStart(2, "0")}:00` : new Date(unix * 1000).toISOString().slice(5, 10));
    const labels = at.map(day);
    set(
      box,
      h("div", { class: "tiles plain" }, tile("Cost", usd(sum("cost")), unpriced ? `${count(unpriced)} calls unpriced` : "every call has a price", unpriced > 0), tile("Calls", count(sum("calls")), `${count(sum("failed") + sum("refused"))} failed or refused`), tile("Tokens in", count(sum("tokens_in")), `${percent(sum("tokens_in") ? sum("cache_read") / sum("tokens_in") : 0)} from a cache`), tile("Tokens out", count(sum("tokens_out")), `${count(sum("reasoning"))} reasoning`)),
      h("div", { class: "cols plots" }, bars({ title: "Cost by model", labels, format: usd, series: series(cost) }), bars({ title: "Tokens by model", labels, format: count, series: series(tokens) })),
      limits,
      budgetPlots(data, labels),
      h("div", { class: "cols" }, Object.keys(TITLES).filter((name) => name !== "host" || by.host.length > 1).map((name) => table(name, by[name]))),
    );
  }
  load();
  return () => clearTimeout(timer);
}
