// The frame: navigation, the route in the URL, keys, theme, and whether the gateway is reachable.

import { h, set } from "./dom.js";
import { get, onState } from "./live.js";
import { now } from "./now.js";

const VIEWS = [
  ["now", "Now", "M4 12h4l2-6 4 12 2-6h4"],
  ["calls", "Calls", "M4 6h16M4 12h16M4 18h10"],
  ["runs", "Runs", "M6 4v10a4 4 0 0 0 4 4h8M6 9h8M18 18l-3-3M18 18l-3 3"],
  ["spend", "Spend", "M5 20V11M12 20V4M19 20v-6"],
  ["tools", "Tools", "M14 6a4 4 0 0 1 5-2l-3 3 1 1 3-3a4 4 0 0 1-6 5l-8 8-2-2 8-8a4 4 0 0 1 2-2z"],
  ["health", "Health", "M12 20s-7-4.6-7-10a4 4 0 0 1 7-2.6A4 4 0 0 1 19 10c0 5.400-7 10-7 10z"],
];
const LOADERS = {
  now: async () => now,
  calls: async () => (await import("./calls.js")).calls,
  call: async () => (await import("./call.js")).call,
  runs: async () => (await import("./runs.js")).runs,
  run: async () => (await import("./run.js")).run,
  spend: async () => (await import("./spend.js")).spend,
  tools: async () => (await import("./tools.js")).tools,
  health: async () => (await import("./health.js")).health,
};
const SECTION = { call: "calls", run: "runs" };
const HELP = [
  ["g then n, c, r, s, t, h", "Now, Calls, Runs, Spend, Tools, Health"],
  ["j, k or arrows", "next and previous row"],
  ["Enter", "open the row"],
  ["/", "search or filter"],
  ["p", "pause and go on"],
  ["Esc", "close, or leave the field"],
  ["?", "these keys"],
];

const main = document.getElementById("main");
const links = new Map();
let leave = () => {};
let version = 0;

function icon(path) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  node.setAttribute("viewBox", "0 0 24 24");
  node.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  node.append(line);
  return node;
}

function frame() {
  const light = h("span", { class: "light", role: "status" });
  onState((state) => {
    light.dataset.state = state;
    set(light, h("i"), { live: "live", connecting: "connecting", offline: "reconnecting …" }[state] || "");
  });
  for (const [name, label, path] of VIEWS) links.set(name, h("a", { href: `#/${name}` }, icon(path), h("span", {}, label)));
  set(
    document.getElementById("nav"),
    h("div", { class: "brand" }, h("img", { src: "page/static/icon.svg", alt: "", width: 20, height: 20 }), "Modelplex"),
    [...links.values()],
    h("div", { class: "foot" }, light, h("button", { class: "quiet", title: "Light or dark", on: { click: turnTheme } }, "◐"), h("button", { class: "quiet", title: "Keys (?)", on: { click: help } }, "?")),
  );
}

function route() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name: LOADERS[name] ? name : "now", id: decodeURIComponent(rest.join("/")), params: Object.fromEntries(new URLSearchParams(search || "")) };
}

// Writes the filters into the URL, without a new entry in the history.
export function remember(name, params) {
  const kept = Object.entries(params).filter(([, value]) => value);
  const search = new URLSearchParams(kept).toString();
  history.replaceState(null, "", `#/${name}${search ? "?" + search : ""}`);
}

async function show() {
  const mine = ++version;
  const at = route();
  for (const [name, link] of links) {
    const here = name === (SECTION[at.name] || at.name);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let view;
  try {
    view = await LOADERS[at.name]();
  } catch {
    if (mine === version) set(main, h("p", { class: "empty" }, "The gateway cannot be reached. ", h("button", { on: { click: show } }, "Try again")));
    return;
  }
  if (mine !== version) return;
  leave();
  leave = () => {};
  set(main);
  main.className = at.name;
  main.scrollTop = 0;
  document.title = `${at.name[0].toUpperCase()}${at.name.slice(1)} · Modelplex`;
  leave = view(main, at) || (() => {});
}

function theme(wanted) {
  if (wanted) document.documentElement.dataset.theme = wanted;
}

function turnTheme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const wanted = dark ? "light" : "dark";
  localStorage.setItem("modelplex-theme", wanted);
  theme(wanted);
}

function help() {
  const open = document.querySelector("dialog");
  if (open) return open.remove();
  const dialog = h("dialog", { "aria-label": "Keys" }, h("h2", {}, "Keys"), h("dl", { class: "facts" }, HELP.map(([keys, what]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, what)])), h("button", { on: { click: () => dialog.remove() } }, "Close"));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

let waiting = false;

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select, textarea");
  if (field) {
    if (event.key === "Escape") field.blur();
    return;
  }
  const second = { n: "now", c: "calls", r: "runs", s: "spend", t: "tools", h: "health" }[event.key];
  if (waiting && second) {
    waiting = false;
    location.hash = `#/${second}`;
    event.preventDefault();
  } else if (event.key === "g") {
    waiting = true;
    setTimeout(() => (waiting = false), 1500);
  } else if (event.key === "?") {
    help();
  } else if (event.key === "/") {
    const search = main.querySelector("input[type=search]");
    if (search) {
      search.focus();
      event.preventDefault();
    }
  }
}

// Buttons that would be refused are hidden (app.css): an admin's token may have some rights only.
async function rights() {
  const me = await get("page/api/me").catch(() => null);
  if (me) document.body.dataset.may = me.may.join(" ");
}

theme(localStorage.getItem("modelplex-theme"));
frame();
rights();
addEventListener("hashchange", show);
document.addEventListener("keydown", keys);
show();
