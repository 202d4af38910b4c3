// `unix:` base URLs for Node 20 and newer: `node --import /path/to/client.mjs agent.mjs`, or NODE_OPTIONS="--import=/path/to/client.mjs".
//
// Runs in the agent's process; a copy of this one file works. It wraps the global `fetch`, which the SDKs use: a URL that begins with `unix:` goes to that socket
// through node:http, whatever proxies the environment names; any other goes on untouched. Nothing else is changed, and `uninstall()` undoes it.

import { statSync } from "node:fs";

const SCHEME = /^unix:/i;
// What stands before the paths of a client whose base URL is the socket alone.
const DEFAULT_BASE = "/models/v1/";
// First segments that are a path of the gateway already. `models` is none: it is also where OpenAI's clients look up a model ...
const SURFACES = new Set(["v1", "v1beta", "v1alpha", "api", "mcp", "tools", "health", "anthropic", "gemini"]);
// ... unless one of these follows it, and something more.
const MODEL_SURFACES = new Set(["v1", "v1beta", "v1alpha", "api", "mcp"]);
// Answers that have no body, as Response wants to be told.
const BODILESS = new Set([204, 205, 304]);
// Headers that are this connection's own to set; bodies come as they are, since nobody here would inflate them.
const OURS = new Set(["host", "connection", "content-length", "transfer-encoding", "accept-encoding"]);
const MARK = Symbol.for("modelplex.unix");

function isSocket(path) {
  try {
    return statSync(path).isSocket();
  } catch {
    return false;
  }
}

function decoded(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

// What follows the base's second appearance: clients may put their base before a URL that holds it already.
function once(socket, rest) {
  const at = `/${rest}`.indexOf(`/${socket}/`);
  if (at < 0) return rest;
  const after = rest.slice(at + socket.length + 1);
  const base = rest.slice(0, at).replace(/^\/+/, "");
  return after.startsWith(base) ? after : rest;
}

function target(rest) {
  const path = rest.replace(/^\/+/, "");
  const [first, second, ...more] = path.split("/");
  const known = SURFACES.has(first) || (first === "models" && MODEL_SURFACES.has(second) && more.join("/") !== "");
  return (known ? "/" : DEFAULT_BASE) + path;
}

// Where a `unix:` URL leads: the first part of its path that is a socket, and path and query as they go onto the wire.
export function place(url) {
  let rest = url.replace(SCHEME, "").replace(/#.*$/s, "");
  if (rest.startsWith("//")) {
    if (rest[2] !== "/") throw unreachable(url, "a socket's URL has no host: write unix:/path/to/modelplex.socket, with one slash");
    rest = rest.slice(2);
  }
  const mark = rest.indexOf("?");
  const query = mark < 0 ? "" : rest.slice(mark);
  const pieces = (mark < 0 ? rest : rest.slice(0, mark)).split("/");
  for (let number = 1; number <= pieces.length; number += 1) {
    const written = pieces.slice(0, number).join("/");
    if (pieces[number - 1] && isSocket(decoded(written))) {
      const left = once(written.replace(/^\/+/, ""), pieces.slice(number).join("/"));
      return { socket: decoded(written), target: target(left) + query };
    }
  }
  throw unreachable(url, "no part of this path is a socket: the gateway may not be running");
}

// What fetch throws where nobody could be reached.
function unreachable(url, why, cause) {
  return new TypeError(`${url}: ${why}`, cause && { cause });
}

// The caller's request with its body whole, so that its length is known.
async function read(input, init) {
  const own = input instanceof Request ? input : undefined;
  const { dispatcher: _, signal: given, ...how } = init ?? {};
  if (how.body instanceof ReadableStream || how.body?.[Symbol.asyncIterator]) how.duplex = "half";
  const { method, headers, body } = own ?? {};
  const asked = new Request("http://localhost/", { ...(own && { method, headers, body, duplex: "half" }), ...how });
  const sent = [...asked.headers].filter(([name]) => !OURS.has(name));
  if (!asked.headers.has("accept")) sent.push(["accept", "*/*"]);
  const bytes = asked.body === null ? null : Buffer.from(await asked.arrayBuffer());
  if (bytes !== null || asked.method === "POST") sent.push(["content-length", String(bytes?.length ?? 0)]);
  return { method: asked.method, headers: sent, bytes, signal: given ?? own?.signal };
}

// The answer's body as it arrives; leaving it ends the connection, and so the call.
function stream(url, answer, { signal, release }) {
  const pieces = answer[Symbol.asyncIterator]();
  return new ReadableStream(
    {
      async pull(controller) {
        try {
          const { done, value } = await pieces.next();
          if (!done) return controller.enqueue(new Uint8Array(value));
          controller.close();
          release();
        } catch (error) {
          release();
          throw signal?.aborted ? signal.reason : unreachable(url, `the answer broke off (${error.message})`, error);
        }
      },
      cancel() {
        answer.destroy();
        release();
      },
    },
    { highWaterMark: 0 },
  );
}

async function throughSocket(url, input, init) {
  const { socket, target: path } = place(url);
  const { method, headers, bytes, signal } = await read(input, init);
  signal?.throwIfAborted();
  const http = await import("node:http");
  return new Promise((resolve, reject) => {
    // One connection a request: connecting to a socket costs next to nothing, and none can go stale when the gateway starts anew.
    const agent = new http.Agent({ keepAlive: false });
    const request = http.request({ socketPath: socket, path, method, agent, setHost: false, headers: [["host", "localhost"], ...headers].flat() });
    let answer;
    const abort = () => {
      reject(signal.reason);
      request.destroy();
      answer?.destroy(signal.reason);
    };
    const release = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort, { once: true });
    request.on("error", (error) => {
      if (answer === undefined) release();
      reject(unreachable(url, `asking ${socket} failed (${error.message}): the gateway may not be running`, error));
    });
    request.on("response", (incoming) => {
      answer = incoming;
      incoming.on("error", () => {}); // told to whoever reads the body, and to nobody else
      const status = incoming.statusCode;
      const { rawHeaders: raw } = incoming;
      const got = raw.flatMap((name, at) => (at % 2 ? [] : [[name, raw[at + 1]]]));
      const empty = BODILESS.has(status) || method === "HEAD";
      if (empty) {
        incoming.resume();
        release();
      }
      const response = new Response(empty ? null : stream(url, incoming, { signal, release }), { status, statusText: incoming.statusMessage, headers: got });
      Object.defineProperty(response, "url", { value: url });
      resolve(response);
    });
    request.end(bytes ?? undefined);
  });
}

const before = globalThis.fetch;

if (!before[MARK]) {
  globalThis.fetch = async function fetch(input, init) {
    const url = input instanceof Request ? input.url : String(input);
    return SCHEME.test(url) ? throughSocket(url, input, init) : before(input, init);
  };
  globalThis.fetch[MARK] = before;
}

// Give the process back the `fetch` that it came with.
export function uninstall() {
  globalThis.fetch = globalThis.fetch[MARK] ?? globalThis.fetch;
}
