// The official OpenAI client for Node, unmodified, made to do what a test names.
//   node client.mjs '{"modules": <node_modules/>, "base": <URL>, "socket": <path or null>, "act": <name>, "model": <name>, "retries": 0, "asked": {...}}'
// It prints one JSON object: what the client handed out, or the error that it raised.
import { createRequire } from 'node:module';

const given = JSON.parse(process.argv[2]);
const from = createRequire(given.modules);
const { OpenAI } = from('openai');

const settings = { baseURL: given.base, apiKey: 'guest', maxRetries: given.retries, timeout: 20000 };
if (given.socket) {
  // A dispatcher belongs to the undici that made it, so that its fetch is used too.
  const { Agent, fetch } = from('undici');
  settings.fetch = fetch;
  settings.fetchOptions = { dispatcher: new Agent({ connect: { socketPath: given.socket } }) };
}
const client = new OpenAI(settings);
const asked = { model: given.model, messages: [{ role: 'user', content: 'Hi' }], ...given.asked };

const acts = {
  async chat() {
    return { answer: await client.chat.completions.create(asked) };
  },
  async stream() {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) chunks.push(chunk);
    return { chunks };
  },
  async helper() {
    const chunks = [];
    let said = '';
    const stream = client.chat.completions.stream(asked);
    stream.on('chunk', (chunk) => chunks.push(chunk));
    stream.on('content', (delta) => { said += delta; });
    return { answer: await stream.finalChatCompletion(), said, chunks };
  },
  async tools() {
    // The client's own loop: it calls our functions and sends back what they gave, until the model answers in words.
    const called = [];
    const tools = asked.tools.map(({ function: declared }) => ({
      type: 'function',
      function: {
        ...declared,
        parse: JSON.parse,
        function: (args) => { called.push({ name: declared.name, args }); return `result of ${declared.name}`; },
      },
    }));
    const runner = client.chat.completions.runTools({ ...asked, tools, stream: given.streamed });
    return { said: await runner.finalContent(), called };
  },
  async embed() {
    const asBase64 = await client.embeddings.create({ model: given.model, input: ['one text', 'another'] });
    const asFloats = await client.embeddings.create({ model: given.model, input: ['one text', 'another'], encoding_format: 'float' });
    return { asBase64, asFloats };
  },
  async models() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model);
    return { listed, retrieved: await client.models.retrieve(given.model) };
  },
  async leave() {
    const stream = await client.chat.completions.create({ ...asked, stream: true });
    for await (const chunk of stream) return { first: chunk };
    return {};
  },
};

let told;
try {
  told = await acts[given.act]();
} catch (error) {
  const retryAfter = error.headers?.get?.('retry-after') ?? null;
  told = {
    error: {
      class: error.constructor.name, status: error.status ?? null, code: error.code ?? null, type: error.type ?? null,
      param: error.param ?? null, message: error.message, retryAfter, requestId: error.requestID ?? null,
    },
  };
}
process.stdout.write(JSON.stringify(told));
