// Builds the page from elements and text nodes. Whatever agents and models say becomes text: no function here takes HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || (value === false && !name.startsWith("aria-"))) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "style") for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else if (name === "href" && !String(value).startsWith("#") && !String(value).startsWith("page/")) throw new Error("a link leads elsewhere");
    else if (name.startsWith("on")) throw new Error("handlers are functions");
    else node.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : String(value));
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(visible(String(child))));
  }
}

// Characters that reorder or hide text would let one name look like another.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

export function visible(text) {
  return text.replace(HIDDEN, (char) => (char === "\r" ? "" : "\\u" + char.charCodeAt(0).toString(16).padStart(4, "0")));
}

export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

export function set(node, ...children) {
  node.replaceChildren();
  add(node, children);
  return node;
}

export function text(node, value) {
  const shown = visible(String(value ?? ""));
  if (node.textContent !== shown) node.textContent = shown;
}

// Rows by key: a row that stays is the same element, so that focus, selection and hover stay too.
const kept = new WeakMap();

export function keyed(parent, items, key, make, update) {
  const old = kept.get(parent) || new Map();
  const now = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const id = key(item);
    const row = old.get(id) || make(item);
    update(row, item);
    now.set(id, row);
    if (row === place) place = place.nextSibling;
    else parent.insertBefore(row, place);
  }
  for (const [id, row] of old) if (!now.has(id)) row.remove();
  while (place && place.parentNode === parent) {
    const next = place.nextSibling;
    if (![...now.values()].includes(place)) place.remove();
    place = next;
  }
  kept.set(parent, now);
}

export function toast(message, bad = false) {
  const node = document.getElementById("toast");
  node.className = bad ? "bad" : "";
  set(node, message);
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => set(node), 5000);
}
