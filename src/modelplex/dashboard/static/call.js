// One request: its parts as blocks, what is new since the turn before, the bytes, attempts and times.

import { changesTable, facts, headersTable, strippedTable, summary, waterfall } from "./detail.js";
import { diff } from "./diff.js";
import { h, set, text } from "./dom.js";
import { bytes, count } from "./format.js";
import { get, getText } from "./live.js";

const BYTES_PER_TOKEN = 4;
const LABELS = { text: "", reasoning: "reasoning", tool_call: "calls", tool_result: "result of", other: "" };

function pretty(value) {
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}

export function block(each) {
  const label = LABELS[each.kind];
  return h("div", { class: `block ${each.kind}${each.is_error ? " failed" : ""}` }, label && h("span", { class: "what" }, `${label} `, h("b", {}, each.name || each.id), each.is_error && h("span", { class: "tag bad" }, "error")), h("pre", {}, each.kind === "tool_call" ? pretty(each.text) : each.text));
}

function part(each) {
  const size = `${bytes(each.bytes)} · ≈ ${count(Math.round(each.bytes / BYTES_PER_TOKEN))} tokens`;
  const content = each.blocks.length ? each.blocks.map(block) : [h("pre", {}, pretty(each.text))];
  return h("details", { class: `part ${each.is_new ? "new" : "same"} ${each.label}`, open: each.is_new && each.kind !== "rest" && each.bytes < 20000 }, h("summary", {}, h("b", {}, each.label), each.is_new ? "" : h("span", { class: "tag" }, "as in the turn before"), h("small", { class: "end" }, size)), content, each.is_cut && h("p", { class: "dim" }, "Only the beginning is shown. The bytes are complete."));
}

export function turn(data) {
  const { content } = data;
  return [content.parts.map(part), content.response.length > 0 && h("div", { class: "part response" }, h("p", { class: "head" }, h("b", {}, "response"), h("small", { class: "end" }, bytes(content.response_bytes))), content.response.map(block))];
}

export function call(main, { id }) {
  const path = `page/api/call/${encodeURIComponent(id)}`;
  const box = h("div");
  set(main, h("header", {}, h("h1", {}, "Request"), h("span", { class: "mono dim" }, id)), box);
  let tab = "parts";

  async function load() {
    let data;
    try {
      data = await get(`${path}/content`);
    } catch (error) {
      set(box, h("p", { class: "empty bad" }, error.message));
      return;
    }
    draw(data);
  }

  function draw(data) {
    const one = data.call;
    const shown = h("div", { class: "shown" });
    const names = [["parts", "Parts"], ["new", "New"], ["request", "From the client"], ["sent", "To the provider"], ["diff", "Compared"], ["response", "Response"], ["headers", "Headers"]];
    const tabs = h("div", { class: "tabs", role: "group", "aria-label": "What is shown" }, names.map(([name, label]) => h("button", { "aria-pressed": name === tab, "data-tab": name, on: { click: () => choose(name) } }, label)));

    async function choose(name) {
      tab = name;
      for (const button of tabs.children) button.setAttribute("aria-pressed", button.dataset.tab === name);
      if (name === "parts") set(shown, data.content.parts.length ? turn(data) : nothing());
      else if (name === "new") set(shown, data.content.parts.length ? turn({ content: { ...data.content, parts: data.content.parts.filter((each) => each.is_new) } }) : nothing());
      else if (name === "headers") set(shown, one.headers.length ? headersTable(one.headers) : nothing());
      else await bodies(name);
    }

    // The attempt whose bytes are shown: the last one, or the one that is chosen.
    const sent = one.kind === "model" ? one.attempts.map((each, i) => ({ ...each, number: i + 1 })).filter((each) => each.sent) : [];
    let attempt = sent.at(-1);
    function attempts(name) {
      if (sent.length < 2) return null;
      return h("p", { class: "tabs", role: "group", "aria-label": "Attempt" }, sent.map((each) => h("button", { "aria-pressed": each === attempt, on: { click: () => { attempt = each; bodies(name); } } }, `${each.number}: ${each.provider} ${each.model}`)));
    }

    const sentPath = () => `${path}/sent${attempt ? `?attempt=${attempt.number}` : ""}`;
    async function bodies(name) {
      set(shown, h("p", { class: "dim" }, "Loading …"));
      try {
        if (name === "diff") {
          const [client, provider] = await Promise.all([getText(`${path}/request`), getText(sentPath())]);
          set(shown, attempts(name), h("p", { class: "dim" }, "Both as indented JSON."), diff(pretty(client), pretty(provider), { left: "from the client", right: `to ${attempt ? attempt.provider : one.provider}` }));
        } else {
          const from = name === "sent" ? sentPath() : `${path}/${name}`;
          const body = await getText(from);
          set(shown, name === "sent" && attempts(name), h("p", {}, h("a", { href: from, download: `${id}.${name}` }, `Save ${bytes(new Blob([body]).size)}`)), h("pre", { class: "tall" }, body));
        }
      } catch (error) {
        set(shown, h("p", { class: "empty" }, error.message));
      }
    }

    const nothing = () => h("p", { class: "empty" }, one.has_request ? "The request has no parts." : 'The body is not stored. [record] content = "full" stores bodies.');
    const earlier = data.content.before;
    set(
      box,
      h("p", { class: "links" }, one.run && h("a", { href: `#/run/${encodeURIComponent(one.run)}?call=${encodeURIComponent(id)}` }, `Run ${one.run}`), earlier && h("a", { href: `#/call/${encodeURIComponent(earlier)}` }, "← The turn before"), one.relation && h("span", { class: "tag" }, one.relation), one.declared !== null && h("span", { class: "tag warn" }, `not read to its end: ${bytes(one.declared)} were announced`), one.masked && h("span", { class: "tag warn" }, "secrets were taken out"), one.cut?.length > 0 && h("span", { class: "tag warn" }, `cut: ${one.cut.join(", ")}`)),
      h("div", { class: "request" }, h("div", {}, tabs, shown), h("aside", {}, summary(one), one.kind === "model" && [h("h3", {}, "Attempts"), waterfall(one), h("h3", {}, "Stripped by the policy"), strippedTable(one.stripped), h("h3", {}, "Changed by translation"), changesTable(one.changes)], facts([["overhead", `${(one.overhead * 1000).toFixed(2)} ms`], ["queued", one.queued ? `${one.queued.toFixed(2)} s` : ""], ["messages", one.messages]]))),
    );
    choose(tab);
  }
  load();
  return () => text(box, "");
}
