// Server-sent events, requests and changes. A page that nobody sees asks for nothing.

const state = { shown: "", listeners: new Set() };

export function onState(act) {
  state.listeners.add(act);
  act(state.shown);
}

function show(now) {
  if (now === state.shown) return;
  state.shown = now;
  for (const act of state.listeners) act(now);
}

export function listen(path, onData, onOpen = () => {}) {
  let source = null;
  let timer = 0;
  const open = () => {
    close();
    if (document.hidden) return;
    if (state.shown !== "live") show("connecting");
    source = new EventSource(path);
    source.onopen = () => {
      show("live");
      onOpen();
    };
    source.onmessage = (event) => onData(JSON.parse(event.data));
    source.onerror = () => {
      show("offline");
      // A browser gives up on an answer that is no stream, as from a gateway that just starts.
      if (source && source.readyState === EventSource.CLOSED) timer = setTimeout(recover, 1000);
    };
  };
  const recover = async () => {
    const answer = await fetch(path.replace(/\?.*/, ""), { method: "HEAD" }).catch(() => null);
    if (answer && answer.status === 401) location.reload();
    else open();
  };
  const close = () => {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  };
  const turn = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", turn);
  open();
  return () => {
    document.removeEventListener("visibilitychange", turn);
    close();
  };
}

async function read(answer) {
  if (answer.status === 401) location.reload();
  if (!answer.ok) {
    const body = await answer.json().catch(() => null);
    throw new Error(body?.error?.message || `The gateway answered with ${answer.status}.`);
  }
  return answer;
}

export async function get(path) {
  return (await read(await fetch(path, { headers: { accept: "application/json" } }))).json();
}

export async function getText(path) {
  return (await read(await fetch(path))).text();
}

export async function change(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  return (await read(answer)).json();
}

export function query(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return kept.length ? "?" + new URLSearchParams(kept) : "";
}
