// One call beside the list: attempts as a waterfall, what was stripped and changed, times and cost.

import { h, set } from "./dom.js";
import { bytes, full, moment, seconds, usd } from "./format.js";
import { get } from "./live.js";

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

// Bars of one time axis: the gateway's own time, each attempt, the wait between, and the first output.
export function waterfall(call) {
  const total = Math.max(call.seconds, 1e-6);
  const rows = [];
  let at = call.overhead || 0;
  const bar = (label, start, length, kind, title) =>
    rows.push(h("div", { class: "fall" }, h("span", { class: "what" }, label), h("span", { class: "track", title }, h("i", { class: kind, style: { left: `${Math.min(99.4, (start / total) * 100)}%`, width: `${Math.max(0.6, Math.min(100, (length / total) * 100))}%` } })), h("span", { class: "n" }, seconds(length))));
  bar("gateway", 0, at, "own", "The gateway's own time until the request was sent");
  const gap = call.attempts.length > 1 ? (call.queued || 0) / (call.attempts.length - 1) : 0;
  call.attempts.forEach((each, i) => {
    if (i) at += gap;
    const bad = each.outcome !== "ok";
    bar([each.provider, h("small", {}, ` ${each.model}${each.key ? ` key ${each.key}` : ""}`), bad && h("span", { class: "tag bad" }, each.outcome)], at, each.seconds, bad ? "failed" : "fine", each.message || each.outcome);
    if (each.message) rows.push(h("p", { class: "message bad" }, each.message));
    at += each.seconds;
  });
  if (call.first_output !== null) bar("first output", 0, call.first_output, "first", "Until the client got the first byte");
  return h("div", { class: "waterfall" }, rows);
}

export function strippedTable(stripped) {
  return stripped.length ? h("div", { class: "scroll" }, h("table", { "aria-label": "Stripped" }, h("thead", {}, h("tr", {}, h("th", {}, "rule"), h("th", {}, "where"))), h("tbody", {}, stripped.map((each) => h("tr", {}, h("td", {}, h("span", { class: "tag lead warn" }, each.rule)), h("td", { class: "wide mono" }, each.pointer)))))) : h("p", { class: "dim" }, "Nothing was stripped.");
}

export function changesTable(changes) {
  return changes.length ? h("div", { class: "scroll" }, h("table", { "aria-label": "Changed by translation" }, h("thead", {}, h("tr", {}, h("th", {}, "what"), h("th", {}, "where"), h("th", {}, "why"))), h("tbody", {}, changes.map((each) => h("tr", {}, h("td", {}, h("span", { class: "tag lead" }, each.op)), h("td", { class: "wide mono" }, each.path), h("td", { class: "wide" }, each.reason)))))) : h("p", { class: "dim" }, "Nothing was lost or changed by translation.");
}

export function headersTable(headers) {
  return h("div", { class: "scroll" }, h("table", { "aria-label": "Headers" }, h("tbody", {}, headers.map(([name, value]) => h("tr", {}, h("td", { class: "mono" }, name), h("td", { class: "wide mono" }, value))))));
}

export function summary(call) {
  const unpriced = call.cost === null && Boolean(call.tokens_in || call.tokens_out);
  return facts([
    ["time", moment(call.started)],
    ["agent", call.agent || call.listener],
    ["host", call.host],
    ["process", call.pid ? `pid ${call.pid}${call.uid !== null ? `, uid ${call.uid}` : ""}` : call.client],
    ["network", call.reach && `${call.reach}${call.interfaces?.length ? `: ${call.interfaces.join(", ")}` : ""}`],
    ["asked for", call.kind === "tool" ? `${call.server} · ${call.tool}` : call.requested_model],
    ["served by", call.provider && `${call.provider} · ${call.model}`],
    ["protocol", [call.dialect, call.endpoint, call.stream && "stream", call.passthrough && "unchanged"].filter(Boolean).join(" · ")],
    ["outcome", `${call.outcome}${call.status ? ` · ${call.status}` : ""}${call.code ? ` · ${call.code}` : ""}${call.blame ? ` · blame: ${call.blame}` : ""}`],
    ["finish reason", call.finish_reason],
    ["error", call.error && h("span", { class: "bad" }, call.error)],
    ["tokens", call.tokens_in !== null && `${full(call.tokens_in)} in${call.cache_read ? ` (${full(call.cache_read)} cached)` : ""}${call.cache_write ? ` (${full(call.cache_write)} written to the cache)` : ""} · ${full(call.tokens_out)} out${call.reasoning ? ` (${full(call.reasoning)} reasoning)` : ""}`],
    ["cost", unpriced ? h("span", { class: "bad" }, "unpriced: no price of this model is known") : call.cost !== null && usd(call.cost)],
    ["bytes", `${bytes(call.bytes_in)} in · ${bytes(call.bytes_out)} out`],
    ["trace", call.trace && h("span", { class: "mono" }, call.trace)],
    ["rule", call.rule],
    ["decision", call.decision],
    ["definition", call.definition && h("span", { class: "mono" }, call.definition)],
  ]);
}

export async function details(side, id, row, close) {
  side.hidden = false;
  const title = h("header", {}, h("b", { class: "mono" }, id), h("button", { class: "quiet close", title: "Close (Esc)", on: { click: close } }, "✕"));
  set(side, title, h("p", { class: "dim" }, "Loading …"));
  let call;
  try {
    call = await get(`page/api/call/${encodeURIComponent(id)}`);
  } catch (error) {
    set(side, title, h("p", { class: "bad" }, error.message));
    return;
  }
  if (side.querySelector("b")?.textContent !== id) return;
  set(
    side,
    title,
    h("p", { class: "links" }, call.stored && h("a", { href: `#/call/${encodeURIComponent(id)}` }, "Open the request"), call.run && h("a", { href: `#/run/${encodeURIComponent(call.run)}?call=${encodeURIComponent(id)}` }, "Open the run")),
    summary(call),
    call.kind === "model" && [h("h3", {}, "Attempts"), waterfall(call), h("h3", {}, "Stripped by the policy"), strippedTable(call.stripped), h("h3", {}, "Changed by translation"), changesTable(call.changes)],
  );
}
