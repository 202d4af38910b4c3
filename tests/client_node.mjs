// What the global `fetch` and OpenAI's client do with `unix:` URLs, on the wrapped `fetch`:
//   node --import src/modelplex/client.mjs client_node.mjs '{"modules": <node_modules/>, "url": "unix:...", "act": <name>}'
// It prints one JSON object.
import { createRequire } from "node:module";

const { modules, url, act } = JSON.parse(process.argv[2]);
const OpenAI = createRequire(modules)("openai");
const asked = { model: "demo", messages: [{ role: "user", content: "Hello" }] };
const client = (more) => new OpenAI({ baseURL: url, apiKey: "unused", maxRetries: 0, ...more });
const named = ({ name, message, cause }) => ({ name, message, cause: cause && named(cause) });

async function failure(doing) {
  try {
    return { got: await doing() };
  } catch (error) {
    return { error: named(error) };
  }
}

const acts = {
  async client() {
    const sdk = client();
    const whole = await sdk.chat.completions.create(asked);
    let streamed = "";
    for await (const chunk of await sdk.chat.completions.create({ ...asked, stream: true })) streamed += chunk.choices[0]?.delta?.content ?? "";
    const models = [];
    for await (const model of sdk.models.list()) models.push(model.id);
    const said = (await sdk.responses.create({ model: "demo", input: "Hello" })).output_text;
    return { whole: whole.choices[0].message.content, streamed, said, models, one: (await sdk.models.retrieve("demo")).id };
  },
  async bodies() {
    const body = JSON.stringify(asked);
    const headers = { "content-type": "application/json" };
    const forms = {
      string: [`${url}/v1/chat/completions`, { method: "POST", headers, body }],
      bytes: [`${url}/v1/chat/completions`, { method: "POST", headers, body: new TextEncoder().encode(body) }],
      stream: [`${url}/v1/chat/completions`, { method: "POST", headers, body: new Blob([body]).stream() }],
      url: [new URL(`${url}/v1/chat/completions`), { method: "POST", headers, body }],
      request: [new Request(`${url}/v1/chat/completions`, { method: "POST", headers, body })],
    };
    const told = {};
    for (const [name, form] of Object.entries(forms)) {
      const response = await fetch(...form);
      told[name] = [response.status, (await response.json()).choices?.[0].message.content, response.headers.get("x-modelplex-provider")];
    }
    const head = await fetch(`${url}/health`, { method: "HEAD" });
    return { told, head: [head.status, await head.text(), head.url] };
  },
  async failure() {
    return { fetched: await failure(() => fetch(`${url}/chat/completions`)), asked: await failure(() => client().models.list()) };
  },
  async cancelled() {
    const controller = new AbortController();
    const stream = await client().chat.completions.create({ ...asked, model: "m", stream: true }, { signal: controller.signal });
    let chunks = 0;
    for await (const _ of stream) {
      chunks += 1;
      controller.abort();
    }
    return { chunks };
  },
  async left() {
    let chunks = 0;
    for await (const _ of await client().chat.completions.create({ ...asked, model: "m", stream: true })) {
      chunks += 1;
      break;
    }
    return { chunks };
  },
  async broken() {
    return failure(async () => {
      const response = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked) });
      return response.text();
    });
  },
  async aborted() {
    const reason = new Error("of my own");
    const early = await failure(() => fetch(`${url}/v1/models`, { signal: AbortSignal.abort(reason) }));
    const controller = new AbortController();
    const body = JSON.stringify({ ...asked, model: "m" });
    const waiting = failure(() => fetch(`${url}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body, signal: controller.signal }));
    process.stderr.write("asked\n");
    process.stdin.once("data", () => controller.abort(reason));
    const late = await waiting;
    process.stdin.destroy();
    return { early, late };
  },
  async twice() {
    const first = globalThis.fetch;
    const again = await import(`${process.env.CLIENT}?again`);
    const same = globalThis.fetch === first;
    again.uninstall();
    const restored = globalThis.fetch !== first && !(await failure(() => fetch("unix:/x"))).error.message.includes("gateway");
    return { same, restored };
  },
};

console.log(JSON.stringify(await acts[act]()));
