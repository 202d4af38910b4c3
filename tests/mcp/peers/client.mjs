// Clients for Node in front of the gateway: `client.mjs MODULES WHICH URL CALLS` lists the tools, makes the calls, and prints what came as JSON.
// WHICH is `legacy` (the SDK's first major version), or the mode of its second: `auto` or a revision. CALLS is a JSON list of [tool, arguments]; all are made at once.

import { createRequire } from "node:module";

const [modules, which, url, calls] = process.argv.slice(2);
const require = createRequire(modules);

async function connected() {
  const info = { name: "test", version: "1" };
  if (which === "legacy") {
    const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const client = new Client(info);
    await client.connect(new StreamableHTTPClientTransport(new URL(url)));
    return client;
  }
  const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
  const mode = which === "auto" ? which : { pin: which };
  const client = new Client(info, { versionNegotiation: { mode } });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  return client;
}

const client = await connected();
const { tools } = await client.listTools();
const answers = await Promise.all(JSON.parse(calls).map(([name, args]) => client.callTool({ name, arguments: args })));
const texts = answers.map((answer) => answer.content.filter((part) => part.type === "text").map((part) => part.text));
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), answers: texts }));
await client.close();
