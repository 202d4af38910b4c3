// Tools: servers, their state and last words, and definitions beside what was approved.

import { diff } from "./diff.js";
import { h, set, toast } from "./dom.js";
import { count, seconds } from "./format.js";
import { change, get } from "./live.js";

const STATES = { ready: "good", starting: "warn", idle_stopped: "dim", cataloged: "dim", configured: "dim", backoff: "bad", crash_loop: "bad" };

function serverRow(each) {
  return h(
    "tr",
    {},
    h("td", {}, h("b", {}, each.name)),
    h("td", {}, h("span", { class: `badge ${STATES[each.state] || "dim"}` }, h("i"), each.state.replace("_", " "))),
    h("td", {}, [each.era, each.version].filter(Boolean).join(" ") || "–"),
    h("td", { class: "n" }, count(each.tools)),
    h("td", { class: "n" }, each.in_flight || "–"),
    h("td", { class: "n" }, each.restarts || "–"),
    h("td", { class: "n" }, seconds(each.uptime)),
    h("td", {}, each.pids.join(", ") || "–"),
    h("td", {}, [each.changed?.length ? h("span", { class: "tag bad" }, `${each.changed.length} changed`) : null, each.pending?.length ? h("span", { class: "tag warn" }, `${each.pending.length} new`) : null, each.left_out ? h("span", { class: "tag" }, `${each.left_out} left out`) : null, each.pinning ? h("span", { class: "tag" }, each.pinning.replace("_", " ")) : null]),
  );
}

function words(each) {
  const lines = [each.last_error, ...(each.last_words || []), ...(each.warnings || [])].filter(Boolean);
  return lines.length ? h("details", { open: Boolean(each.last_error) }, h("summary", {}, `${each.name}: last words`), h("pre", {}, lines.join("\n"))) : null;
}

function card(each, approve) {
  const changed = each.state === "changed";
  const old = each.before ?? (changed ? "The approved text was not kept on this machine; only its hash is known:\n" + each.approved : "");
  const button = h("button", { class: "primary changes" }, "Approve");
  button.addEventListener("click", () => approve([each], button));
  return h(
    "article",
    { class: "card", "data-name": `${each.server}/${each.name}` },
    h("header", {}, h("b", {}, `${each.server} · ${each.name}`), h("span", { class: "tag" }, each.kind), h("span", { class: `tag ${changed ? "bad" : "warn"}` }, changed ? "changed since it was approved" : "new"), h("span", { class: "end" }, button)),
    each.findings.length > 0 && h("ul", { class: "bad" }, each.findings.map((finding) => h("li", {}, finding))),
    changed ? diff(old, each.now, { left: "approved", right: "now" }) : h("pre", {}, each.now),
  );
}

export function tools(main) {
  const box = h("div");
  set(main, h("header", {}, h("h1", {}, "Tools"), h("span", { class: "end" }, h("button", { on: { click: load } }, "Refresh"))), box);
  let timer = 0;
  let shown = "";

  async function approve(chosen, button) {
    button.disabled = true;
    try {
      await change("page/api/approve", { server: chosen[0].server, names: chosen.map(({ kind, name, hash }) => ({ kind, name, hash })) });
      toast(`Approved ${chosen.map((each) => each.name).join(", ")}.`);
    } catch (error) {
      toast(error.message, true);
    }
    load();
  }

  async function load() {
    clearTimeout(timer);
    timer = setTimeout(load, 5000);
    if (document.hidden) return;
    let data;
    try {
      data = await get("page/api/tools");
    } catch (error) {
      if (!shown) set(box, h("p", { class: "empty bad" }, error.message));
      return;
    }
    const same = JSON.stringify([data.servers.map((each) => ({ ...each, uptime: 0 })), data.definitions]);
    if (same === shown) return;
    shown = same;
    draw(data);
  }

  function draw(data) {
    if (!data.enabled || !data.servers.length) {
      set(box, h("p", { class: "empty" }, data.enabled ? "The config names no tool servers." : "Tools are off: the config has no [mcp] enabled = true."));
      return;
    }
    const waiting = data.definitions.filter((each) => each.state !== "approved");
    const approved = data.definitions.filter((each) => each.state === "approved");
    set(
      box,
      h("section", {}, h("h2", {}, "Servers"), h("div", { class: "scroll" }, h("table", { "aria-label": "Servers" }, h("thead", {}, h("tr", {}, ["server", "state", "protocol"].map((each) => h("th", {}, each)), ["tools", "running", "restarts", "up"].map((each) => h("th", { class: "n" }, each)), ["pid", ""].map((each) => h("th", {}, each)))), h("tbody", {}, data.servers.map(serverRow)))), data.servers.map(words)),
      h("section", {}, h("h2", {}, "Waiting for approval"), waiting.length ? waiting.map((each) => card(each, approve)) : h("p", { class: "empty" }, "Nothing waits: every definition is as it was approved.")),
      h("section", {}, h("h2", {}, `Approved definitions (${approved.length})`), approved.map((each) => h("details", {}, h("summary", {}, h("b", {}, `${each.server} · ${each.name}`), " ", h("span", { class: "tag" }, each.kind), each.findings.length > 0 && h("span", { class: "tag bad" }, `${each.findings.length} findings`)), each.findings.length > 0 && h("ul", { class: "bad" }, each.findings.map((finding) => h("li", {}, finding))), h("pre", {}, each.now)))),
    );
  }
  load();
  return () => clearTimeout(timer);
}
