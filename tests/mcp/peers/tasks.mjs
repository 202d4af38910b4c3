// Calls one tool as a task, with the TypeScript SDK's own client of tasks, and prints what it was told: node tasks.mjs NODE_MODULES URL TOOL
import { pathToFileURL } from "node:url";

const [modules, url, tool] = process.argv.slice(2);
const sdk = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/sdk/dist/esm/${path}`).href);
const { Client } = await sdk("client/index.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");
const { CallToolResultSchema } = await sdk("types.js");

const client = new Client({ name: "tasks", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
await client.listTools();
const kinds = [];
let task = "";
let text = "";
for await (const told of client.experimental.tasks.callToolStream(
  { name: tool, arguments: { topic: "gateways" } },
  CallToolResultSchema,
  { task: { ttl: 60000 } },
)) {
  kinds.push(told.type);
  if (told.type === "taskCreated") task = told.task.taskId;
  if (told.type === "result") text = told.result.content[0].text;
  if (told.type === "error") throw told.error;
}
console.log(JSON.stringify({ kinds, task, text }));
await client.close();
