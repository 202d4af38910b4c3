// Small charts as SVG. Colours are classes: the style sheet knows light and dark.

import { h, svg } from "./dom.js";

export function spark(values, { width = 96, height = 22, most = 0 } = {}) {
  const top = Math.max(most, ...values, 1e-9);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((value, i) => `${(i * step).toFixed(1)},${(height - 1 - (value / top) * (height - 2)).toFixed(1)}`);
  const box = svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, preserveAspectRatio: "none", "aria-hidden": "true" });
  if (values.length > 1 && values.some((value) => value > 0)) {
    box.append(svg("polygon", { points: `0,${height} ${points.join(" ")} ${width},${height}` }), svg("polyline", { points: points.join(" ") }));
  }
  return box;
}

function nice(top) {
  const size = 10 ** Math.floor(Math.log10(top || 1));
  const first = [1, 2, 2.5, 5, 10].find((each) => each * size >= top) || 10;
  return first * size;
}

const WIDTH = 520;
const HEIGHT = 160;
const LEFT = 46;
const BOTTOM = 20;

function axes(box, top, format, labels, place) {
  for (const part of [0, 0.5, 1]) {
    const y = HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - 8);
    box.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y, y2: y }), svg("text", { class: "tick", x: LEFT - 6, y: y + 3.5, "text-anchor": "end" }, format(top * part)));
  }
  const every = Math.ceil(labels.length / 7);
  labels.forEach((label, i) => {
    if (i % every === 0) box.append(svg("text", { class: "tick", x: place(i), y: HEIGHT - 5, "text-anchor": place(i) < LEFT + 12 ? "start" : "middle" }, label));
  });
}

export function legend(names) {
  return h("div", { class: "legend" }, names.map((name, i) => h("span", {}, h("i", { class: `c${i % 8}` }), name)));
}

// `series` is [{name, values}], all as long as `labels`. Null values leave a gap.
export function lines({ labels, series, format, title }) {
  const top = nice(Math.max(...series.flatMap((each) => each.values.map((value) => value || 0)), 1e-9));
  const place = (i) => LEFT + ((WIDTH - LEFT - 4) * i) / Math.max(1, labels.length - 1);
  const box = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  axes(box, top, format, labels, place);
  series.forEach((each, n) => {
    let path = "";
    let pen = false;
    const dots = [];
    each.values.forEach((value, i) => {
      if (value === null || value === undefined) pen = false;
      else {
        path += `${pen ? "L" : "M"}${place(i).toFixed(1)},${(HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - 8)).toFixed(1)}`;
        if (!pen && (each.values[i + 1] ?? null) === null) dots.push([place(i), HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - 8)]);
        pen = true;
      }
    });
    box.append(svg("path", { class: `line s${n % 8}`, d: path }), ...dots.map(([cx, cy]) => svg("circle", { class: `dot c${n % 8}`, cx, cy, r: 2.2 })));
  });
  labels.forEach((label, i) => {
    const values = series.map((each) => `${each.name}: ${each.values[i] === null || each.values[i] === undefined ? "–" : format(each.values[i])}`).join("\n");
    const wide = (WIDTH - LEFT) / Math.max(1, labels.length);
    box.append(svg("rect", { class: "hit", x: place(i) - wide / 2, y: 0, width: wide, height: HEIGHT - BOTTOM }, svg("title", {}, `${label}\n${values}`)));
  });
  return h("figure", {}, h("figcaption", {}, title, legend(series.map((each) => each.name))), box);
}

// `limit` is {value, label}: a line across.
export function bars({ labels, series, format, title, limit = null }) {
  const sums = labels.map((_, i) => series.reduce((sum, each) => sum + (each.values[i] || 0), 0));
  const top = nice(Math.max(...sums, limit ? limit.value : 0, 1e-9));
  const wide = (WIDTH - LEFT - 4) / Math.max(1, labels.length);
  const place = (i) => LEFT + wide * (i + 0.5);
  const box = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  axes(box, top, format, labels, place);
  labels.forEach((label, i) => {
    let y = HEIGHT - BOTTOM;
    series.forEach((each, n) => {
      const tall = ((each.values[i] || 0) / top) * (HEIGHT - BOTTOM - 8);
      if (tall <= 0) return;
      y -= tall;
      box.append(svg("rect", { class: `bar c${n % 8}`, x: (LEFT + wide * i + wide * 0.12).toFixed(1), y: y.toFixed(1), width: (wide * 0.76).toFixed(1), height: Math.max(0.6, tall).toFixed(1) }));
    });
    const values = series.filter((each) => each.values[i]).map((each) => `${each.name}: ${format(each.values[i])}`).join("\n");
    box.append(svg("rect", { class: "hit", x: LEFT + wide * i, y: 0, width: wide, height: HEIGHT - BOTTOM }, svg("title", {}, `${label}\n${values || "nothing"}`)));
  });
  if (limit) {
    const y = HEIGHT - BOTTOM - (limit.value / top) * (HEIGHT - BOTTOM - 8);
    box.append(svg("line", { class: "limit", x1: LEFT, x2: WIDTH, y1: y, y2: y }, svg("title", {}, limit.label)));
  }
  const names = legend(series.map((each) => each.name));
  if (limit) names.append(h("span", { class: "bad" }, `┄ ${limit.label}`));
  return h("figure", {}, h("figcaption", {}, title, names), box);
}

// A part of a whole, as a bar.
export function meter(part, { label = "", limit = true } = {}) {
  const shown = Math.max(0, Math.min(1, part));
  const warn = !limit ? "" : part >= 1 ? "bad" : part >= 0.8 ? "warn" : "";
  return h("span", { class: `meter ${warn}`, role: "meter", "aria-valuenow": Math.round(shown * 100), "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": label || "share" }, h("i", { style: { width: `${shown * 100}%` } }));
}
