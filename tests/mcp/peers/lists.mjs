// Reads lists and answers with the official SDKs' own clients: `lists.mjs MODULES`, with one JSON array [mode, method, result] on each line of the input.
// MODE is `1.x` (the SDK's first major version), or the revision that its second one is pinned to. Prints for each line `ok`, or the error that the client's caller gets.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const [modules] = process.argv.slice(2);
const require = createRequire(modules);
const CALLS = {
  "tools/list": (client) => client.listTools(),
  "prompts/list": (client) => client.listPrompts(),
  "resources/list": (client) => client.listResources(),
  "resources/templates/list": (client) => client.listResourceTemplates(),
  "tools/call": (client) => client.callTool({ name: "x", arguments: {} }),
  "prompts/get": (client) => client.getPrompt({ name: "x" }),
  "resources/read": (client) => client.readResource({ uri: "a:b" }),
};
const capabilities = { tools: {}, prompts: {}, resources: {} };
const serverInfo = { name: "lists", version: "1" };

// A transport whose server answers everything with `current`.
class Given {
  current = {};
  async start() {}
  async close() {}
  async send(message) {
    if (message.id === undefined) return;
    const result = {
      initialize: { protocolVersion: message.params?.protocolVersion, capabilities, serverInfo },
      "server/discover": {
        resultType: "complete", supportedVersions: ["2026-07-28"], capabilities, ttlMs: 0, cacheScope: "private",
      },
    }[message.method] ?? this.current;
    queueMicrotask(() => this.onmessage?.({ jsonrpc: "2.0", id: message.id, result }));
  }
}

const clients = new Map();
async function clientOf(mode) {
  if (!clients.has(mode)) {
    const transport = new Given();
    const { Client } = require(mode === "1.x" ? "@modelcontextprotocol/sdk/client/index.js" : "@modelcontextprotocol/client");
    const negotiation = mode.startsWith("2026") ? { versionNegotiation: { mode: { pin: mode } } } : {};
    const client = new Client({ name: "test", version: "1" }, negotiation);
    await client.connect(transport);
    clients.set(mode, { client, transport });
  }
  return clients.get(mode);
}

console.warn = () => {};
for await (const line of createInterface({ input: process.stdin })) {
  const [mode, method, result] = JSON.parse(line);
  const { client, transport } = await clientOf(mode);
  transport.current = result;
  try {
    await CALLS[method](client);
    console.log("ok");
  } catch (error) {
    console.log(String(error.message).replace(/\s+/g, " ").slice(0, 300));
  }
}
