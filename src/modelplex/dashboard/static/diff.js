// Two texts side by side, by lines: the longest common subsequence, bounded.

import { h } from "./dom.js";

const MOST = 2000;

// Pairs [left line or null, right line or null].
export function pairs(left, right) {
  const a = left.split("\n");
  const b = right.split("\n");
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const x = a.slice(start, a.length - end);
  const y = b.slice(start, b.length - end);
  const out = a.slice(0, start).map((line) => [line, line]);
  if (x.length * y.length > MOST * MOST) {
    x.forEach((line) => out.push([line, null]));
    y.forEach((line) => out.push([null, line]));
  } else {
    const best = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
    for (let i = x.length - 1; i >= 0; i -= 1) for (let j = y.length - 1; j >= 0; j -= 1) best[i][j] = x[i] === y[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    let i = 0;
    let j = 0;
    const gone = [];
    const come = [];
    const flush = () => {
      for (let n = 0; n < Math.max(gone.length, come.length); n += 1) out.push([gone[n] ?? null, come[n] ?? null]);
      gone.length = come.length = 0;
    };
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) {
        flush();
        out.push([x[i++], y[j++]]);
      } else if (j >= y.length || (i < x.length && best[i + 1][j] >= best[i][j + 1])) gone.push(x[i++]);
      else come.push(y[j++]);
    }
    flush();
  }
  for (const line of a.slice(a.length - end)) out.push([line, line]);
  return out;
}

const KEEP = 3;

export function diff(left, right, { left: leftName, right: rightName }) {
  const rows = pairs(left, right);
  const near = rows.map((_, i) => rows.slice(Math.max(0, i - KEEP), i + KEEP + 1).some(([x, y]) => x !== y));
  const body = [];
  let skipped = 0;
  rows.forEach(([x, y], i) => {
    if (!near[i]) {
      skipped += 1;
      return;
    }
    if (skipped) body.push(h("tr", { class: "gap" }, h("td", { colspan: 2 }, `${skipped} lines alike`)));
    skipped = 0;
    body.push(h("tr", {}, h("td", { class: x !== y && x !== null ? "del" : "" }, x), h("td", { class: x !== y && y !== null ? "add" : "" }, y)));
  });
  if (skipped) body.push(h("tr", { class: "gap" }, h("td", { colspan: 2 }, body.length ? `${skipped} lines alike` : "The two are alike.")));
  return h("div", { class: "scroll" }, h("table", { class: "diff" }, h("thead", {}, h("tr", {}, h("th", {}, leftName), h("th", {}, rightName))), h("tbody", {}, body)));
}
