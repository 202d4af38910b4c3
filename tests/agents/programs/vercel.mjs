// The Vercel AI SDK in front of the gateway: `vercel.mjs MODULES PROVIDER BASE MODEL FILE` streams one task with one tool.
import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, provider, baseURL, model, file] = process.argv.slice(2);
const { resolve } = createRequire(modules);
const load = (name) => import(pathToFileURL(resolve(name)));

const { streamText, tool, stepCountIs, isStepCount } = await load("ai");
const { z } = await load("zod");
const makers = {
  openai: async () => (await load("@ai-sdk/openai")).createOpenAI({ baseURL, apiKey: "unused" }),
  anthropic: async () => (await load("@ai-sdk/anthropic")).createAnthropic({ baseURL, apiKey: "unused" }),
  compatible: async () =>
    (await load("@ai-sdk/openai-compatible")).createOpenAICompatible({ name: "modelplex", baseURL, apiKey: "unused" }),
};
const source = await makers[provider]();
const answer = streamText({
  model: source(model),
  prompt: "Write the marker.",
  stopWhen: (stepCountIs ?? isStepCount)(4),
  maxRetries: 0,
  // Otherwise it names the turns that OpenAI is to have kept, instead of sending them.
  providerOptions: { openai: { store: false } },
  onError: ({ error }) => {
    console.error(error);
    process.exitCode = 1;
  },
  tools: {
    write_marker: tool({
      description: "Writes a text into the marker file",
      inputSchema: z.object({ text: z.string() }),
      execute: async ({ text }) => {
        appendFileSync(file, text);
        return `wrote ${text.length} characters`;
      },
    }),
  },
});
for await (const piece of answer.textStream) process.stdout.write(piece);
console.log("\n" + JSON.stringify(await answer.usage));
