// `unix:` base URLs for Node 20 and newer: `node --import /path/to/client.mjs agent.mjs`, or NODE_OPTIONS="--import=/path/to/client.mjs".
//
// Runs in the agent's process; a copy of this one file works. It wraps the global `fetch`, which the SDKs use: requests for `unix:` URLs go to the socket through
// node:http and ignore the environment's proxies; others pass unchanged. Nothing else is changed, and `uninstall()` undoes it.

import { statSync } from "node:fs";

const SCHEME = /^unix:/i;
// The base of the paths of a client whose base URL is the socket alone.
const DEFAULT_BASE = "/models/v1/";
// First segments of the gateway's own paths. `models` is not one of them, since OpenAI's clients look up models there, ...
const GATEWAY_SEGMENTS = new Set(["v1", "v1beta", "v1alpha", "api", "mcp", "tools", "health", "anthropic", "gemini"]);
// ... unless one of these follows it, and another segment.
const AFTER_MODELS = new Set(["v1", "v1beta", "v1alpha", "api", "mcp"]);
// Statuses without a body, for which Response accepts none.
const BODILESS = new Set([204, 205, 304]);
// Headers of this connection; bodies are not compressed, since nothing here would decompress them.
const CONNECTION_HEADERS = new Set(["host", "connection", "content-length", "transfer-encoding", "accept-encoding"]);
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

// The path without a second base: clients may prepend their base to a URL that has it already.
function withoutSecondBase(socket, rest) {
  const at = `/${rest}`.indexOf(`/${socket}/`);
  if (at < 0) return rest;
  const after = rest.slice(at + socket.length + 1);
  const base = rest.slice(0, at).replace(/^\/+/, "");
  return after.startsWith(base) ? after : rest;
}

function target(rest) {
  const path = rest.replace(/^\/+/, "");
  const [first, second, ...more] = path.split("/");
  const known = GATEWAY_SEGMENTS.has(first) || (first === "models" && AFTER_MODELS.has(second) && more.join("/") !== "");
  return (known ? "/" : DEFAULT_BASE) + path;
}

// Splits a `unix:` URL into the first part of its path that is a socket, and the path and query of the request line.
function parseUrl(url) {
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
      const left = withoutSecondBase(written.replace(/^\/+/, ""), pieces.slice(number).join("/"));
      return { socket: decoded(written), target: target(left) + query };
    }
  }
  throw unreachable(url, "no part of this path is a socket: the gateway may not be running");
}

// The error that fetch throws for a failed connection.
function unreachable(url, why, cause) {
  return new TypeError(`${url}: ${why}`, cause && { cause });
}

// The caller's request with its whole body, so that its length is known.
async function read(input, init) {
  const own = input instanceof Request ? input : undefined;
  const { dispatcher: _, signal: given, ...options } = init ?? {};
  if (options.body instanceof ReadableStream || options.body?.[Symbol.asyncIterator]) options.duplex = "half";
  const { method, headers, body } = own ?? {};
  const request = new Request("http://localhost/", { ...(own && { method, headers, body, duplex: "half" }), ...options });
  const sent = [...request.headers].filter(([name]) => !CONNECTION_HEADERS.has(name));
  if (!request.headers.has("accept")) sent.push(["accept", "*/*"]);
  const bytes = request.body === null ? null : Buffer.from(await request.arrayBuffer());
  if (bytes !== null || request.method === "POST") sent.push(["content-length", String(bytes?.length ?? 0)]);
  return { method: request.method, headers: sent, bytes, signal: given ?? own?.signal };
}

// The response's body as it arrives; cancelling it closes the connection, and so ends the call.
function stream(url, incoming, { signal, release }) {
  const pieces = incoming[Symbol.asyncIterator]();
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
          throw signal?.aborted ? signal.reason : unreachable(url, `the response broke off (${error.message})`, error);
        }
      },
      cancel() {
        incoming.destroy();
        release();
      },
    },
    { highWaterMark: 0 },
  );
}

async function fetchOverSocket(url, input, init) {
  const { socket, target: path } = parseUrl(url);
  const { method, headers, bytes, signal } = await read(input, init);
  signal?.throwIfAborted();
  const http = await import("node:http");
  return new Promise((resolve, reject) => {
    // One connection per request: connecting to a socket is cheap, and no connection is stale after a restart of the gateway.
    const agent = new http.Agent({ keepAlive: false });
    const request = http.request({ socketPath: socket, path, method, agent, setHost: false, headers: [["host", "localhost"], ...headers].flat() });
    let received;
    const abort = () => {
      reject(signal.reason);
      request.destroy();
      received?.destroy(signal.reason);
    };
    const release = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort, { once: true });
    request.on("error", (error) => {
      if (received === undefined) release();
      reject(unreachable(url, `a request to ${socket} failed (${error.message}): the gateway may not be running`, error));
    });
    request.on("response", (incoming) => {
      received = incoming;
      incoming.on("error", () => {}); // reported to the reader of the body
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
    return SCHEME.test(url) ? fetchOverSocket(url, input, init) : before(input, init);
  };
  globalThis.fetch[MARK] = before;
}

// Restores the original `fetch`.
export function uninstall() {
  globalThis.fetch = globalThis.fetch[MARK] ?? globalThis.fetch;
}
