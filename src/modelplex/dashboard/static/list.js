// A list of many rows of one height, of which only those in sight are elements.

import { h, set } from "./dom.js";

const SPARE = 8;

// `columns` is [{label, className}], `fill(cells, item)` writes a row, `open(item)` follows Enter or a click,
// `more()` is called for older rows near the end. Rows have an `id`.
export function virtualList({ columns, height = 29, label, fill, open, more, classOf = () => "" }) {
  let items = [];
  let chosen = null;
  const pool = [];
  const head = h("div", { class: "vhead", role: "row" }, columns.map((each) => h("span", { role: "columnheader", class: each.className || "" }, each.label)));
  const space = h("div", { class: "vspace", role: "presentation" });
  const body = h("div", { class: "vbody", role: "grid", tabindex: 0, "aria-label": label }, space);
  const node = h("div", { class: "vlist" }, head, body);

  function element() {
    const row = h("div", { class: "vrow", role: "row" }, columns.map((each) => h("span", { role: "gridcell", class: each.className || "" })));
    row.addEventListener("click", () => {
      if (String(getSelection())) return;
      choose(row.item.id);
      open(row.item);
    });
    space.append(row);
    return row;
  }

  function paint() {
    const first = Math.max(0, Math.floor(body.scrollTop / height) - SPARE);
    const last = Math.min(items.length, Math.ceil((body.scrollTop + body.clientHeight) / height) + SPARE);
    space.style.height = `${items.length * height}px`;
    body.setAttribute("aria-rowcount", items.length);
    for (let i = first; i < last; i += 1) {
      const row = pool[i - first] || (pool[i - first] = element());
      const item = items[i];
      row.hidden = false;
      row.style.transform = `translateY(${i * height}px)`;
      if (row.item !== item) {
        row.item = item;
        fill([...row.children], item);
        row.dataset.id = item.id;
      }
      row.id = `row-${i}`;
      row.setAttribute("aria-rowindex", i + 1);
      row.className = `vrow ${classOf(item)}${item.id === chosen ? " chosen" : ""}`;
      row.setAttribute("aria-selected", item.id === chosen);
      if (item.id === chosen) body.setAttribute("aria-activedescendant", row.id);
    }
    for (let i = Math.max(0, last - first); i < pool.length; i += 1) pool[i].hidden = true;
    if (more && items.length && last >= items.length) more();
  }

  let frame = 0;
  const later = () => {
    if (!frame) frame = requestAnimationFrame(() => {
      frame = 0;
      paint();
    });
  };

  function choose(id) {
    chosen = id;
    later();
  }

  function move(to) {
    if (!items.length) return;
    const index = Math.max(0, Math.min(items.length - 1, to));
    const top = index * height;
    if (top < body.scrollTop) body.scrollTop = top;
    else if (top + height > body.scrollTop + body.clientHeight) body.scrollTop = top + height - body.clientHeight;
    chosen = items[index].id;
    paint();
  }

  body.addEventListener("scroll", later);
  body.addEventListener("keydown", (event) => {
    const at = items.findIndex((each) => each.id === chosen);
    const page = Math.max(1, Math.floor(body.clientHeight / height) - 1);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page };
    if (event.key in steps) move(at < 0 ? 0 : at + steps[event.key]);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(items.length - 1);
    else if (event.key === "Enter" && at >= 0) open(items[at]);
    else return;
    event.preventDefault();
  });
  const watch = new ResizeObserver(later);
  watch.observe(body);

  return {
    node,
    body,
    focus: () => body.focus(),
    close: () => watch.disconnect(),
    get chosen() {
      return chosen;
    },
    choose,
    // `added` rows are new at the top: what is in sight stays in its place, unless that is the top.
    show(rows, added = 0) {
      items = rows;
      if (added && body.scrollTop > 0) body.scrollTop += added * height;
      later();
    },
  };
}

export function fillCells(cells, values) {
  values.forEach((value, i) => set(cells[i], value));
}
