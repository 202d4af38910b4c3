// Numbers and times as short text.

const number = new Intl.NumberFormat("en");

export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10 && value % 1) return value.toFixed(1);
  if (value < 10000) return number.format(Math.round(value));
  if (value < 1e6) return (value / 1e3).toFixed(value < 1e5 ? 1 : 0) + "k";
  if (value < 1e9) return (value / 1e6).toFixed(value < 1e7 ? 2 : 1) + "M";
  return (value / 1e9).toFixed(2) + "G";
}

export const full = (value) => (value === null || value === undefined ? "–" : number.format(value));

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1000) return value + " B";
  if (value < 1e6) return (value / 1e3).toFixed(1) + " kB";
  return (value / 1e6).toFixed(1) + " MB";
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 s";
  if (value < 0.001) return (value * 1e6).toFixed(0) + " µs";
  if (value < 1) return (value * 1e3).toFixed(value < 0.01 ? 1 : 0) + " ms";
  if (value < 60) return value.toFixed(value < 10 ? 2 : 1) + " s";
  if (value < 3600) return Math.floor(value / 60) + "m " + String(Math.floor(value % 60)).padStart(2, "0") + "s";
  if (value < 86400) return Math.floor(value / 3600) + "h " + String(Math.floor((value % 3600) / 60)).padStart(2, "0") + "m";
  return Math.floor(value / 86400) + "d " + Math.floor((value % 86400) / 3600) + "h";
}

export function usd(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "$0";
  if (Math.abs(value) < 0.01) return "$" + value.toPrecision(2).replace(/0+$/, "");
  if (Math.abs(value) < 1) return "$" + value.toFixed(3);
  return "$" + new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value);
}

const two = (value) => String(value).padStart(2, "0");

export function clock(unix) {
  const at = new Date(unix * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function moment(unix) {
  if (!unix) return "–";
  const at = new Date(unix * 1000);
  const today = new Date();
  const day = at.toDateString() === today.toDateString() ? "" : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `;
  return day + clock(unix);
}

export function ago(unix) {
  if (!unix) return "–";
  const passed = Math.max(0, Date.now() / 1000 - unix);
  return passed < 2 ? "now" : passed < 60 ? Math.floor(passed) + " s ago" : seconds(passed).split(" ")[0] + " ago";
}

export const percent = (part) => (part * 100 >= 10 || part === 0 ? Math.round(part * 100) : (part * 100).toFixed(1)) + " %";
