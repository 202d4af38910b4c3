// Runs: the calls of one agent process, or of one conversation.

import { h, set } from "./dom.js";
import { count, moment, seconds, usd } from "./format.js";
import { get } from "./live.js";

function row(run) {
  const failed = run.failed + run.refused;
  return h(
    "tr",
    { class: "open", tabindex: 0, "data-id": run.id, on: { click: () => go(run), keydown: (event) => event.key === "Enter" && go(run) } },
    h("td", {}, moment(run.started)),
    h("td", {}, h("b", {}, run.agent || "–"), run.kind === "run" && h("span", { class: "tag" }, "run")),
    h("td", { class: "wide" }, run.command ? h("code", { class: "command", title: run.command }, run.command) : h("span", { class: "dim mono" }, run.id), run.repository && h("small", {}, ` ${run.repository}${run.branch ? ` @ ${run.branch}` : ""}`), Object.entries(run.tags).map(([name, value]) => h("span", { class: "tag" }, `${name}=${value}`))),
    h("td", { class: "n" }, count(run.calls)),
    h("td", { class: "n" }, run.tool_calls || "–"),
    h("td", { class: "n" }, failed ? h("span", { class: "bad" }, count(failed)) : "–"),
    h("td", { class: "n" }, count(run.tokens_in)),
    h("td", { class: "n" }, count(run.tokens_out)),
    h("td", { class: "n" }, usd(run.cost), run.unpriced > 0 && h("span", { class: "tag bad" }, `${count(run.unpriced)} unpriced`)),
    h("td", { class: "n" }, seconds(Math.max(0, (run.ended || run.last) - run.started))),
  );
}

const go = (run) => (location.hash = `#/run/${encodeURIComponent(run.id)}`);

export function runs(main) {
  const box = h("div");
  const search = h("input", { type: "search", placeholder: "Filter  /", "aria-label": "Filter", on: { input: draw } });
  set(main, h("header", {}, h("h1", {}, "Runs"), h("span", { class: "end" }, search)), box);
  let data = null;
  let timer = 0;

  function draw() {
    if (!data) return;
    const wanted = search.value.toLowerCase();
    const rows = data.runs.filter((run) => [run.id, run.agent, run.command, run.repository, run.branch, JSON.stringify(run.tags)].join(" ").toLowerCase().includes(wanted));
    set(box, rows.length ? h("div", { class: "scroll" }, h("table", { "aria-label": "Runs" }, h("thead", {}, h("tr", {}, ["started", "agent", "run"].map((each) => h("th", {}, each)), ["calls", "tools", "failed", "in", "out", "cost", "length"].map((each) => h("th", { class: "n" }, each)))), h("tbody", {}, rows.map(row)))) : h("p", { class: "empty" }, data.stored ? "No run matches." : "Nothing is recorded here."));
  }

  async function load() {
    clearTimeout(timer);
    timer = setTimeout(load, 5000);
    if (document.hidden || box.contains(document.activeElement)) return;
    try {
      data = await get("page/api/runs");
      draw();
    } catch (error) {
      if (!data) set(box, h("p", { class: "empty bad" }, error.message));
    }
  }

  function keys(event) {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (!step || event.target.closest("input")) return;
    const rows = [...box.querySelectorAll("tr.open")];
    const at = rows.indexOf(document.activeElement);
    rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))]?.focus();
    event.preventDefault();
  }
  document.addEventListener("keydown", keys);
  load();
  return () => {
    clearTimeout(timer);
    document.removeEventListener("keydown", keys);
  };
}
