// oidc-provider as an authorization server, and a tool server beside it that accepts its tokens.
//
// `node authorization_server.mjs OPTIONS`: OPTIONS is JSON. Writes a line of JSON with both addresses, and ends with its stdin.
//   life          seconds of an access token
//   registration  whether clients may register themselves
//   clients       clients that are registered beforehand
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const options = { life: 3600, registration: true, clients: [], ...JSON.parse(process.argv[2] ?? "{}") };
const require = createRequire(process.env.NODE_MODULES + "/");
const { Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

const listening = (server) =>
  new Promise((done) => server.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${server.address().port}`)));
let answer, serve;
const authorization = createServer((request, response) => answer(request, response));
const tools = createServer((request, response) => serve(request, response));
const issuer = await listening(authorization);
const base = await listening(tools);
const resource = `${base}/mcp`;

const provider = new Provider(issuer, {
  clients: options.clients,
  scopes: ["openid", "offline_access", "mcp:read", "mcp:write"],
  pkce: { required: () => true },
  cookies: { keys: ["a key for tests"] },
  ttl: { AccessToken: options.life, RefreshToken: 86400, Grant: 86400, Interaction: 600, Session: 600, DeviceCode: 600, ClientCredentials: options.life },
  rotateRefreshToken: true,
  clientAuthMethods: ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
  enabledJWA: { clientAuthSigningAlgValues: ["ES256", "RS256"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  features: {
    devInteractions: { enabled: true },
    registration: { enabled: options.registration },
    revocation: { enabled: true },
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, indicator) => {
        if (indicator !== resource) throw new Error("another resource");
        return { scope: "mcp:read mcp:write", audience: resource, accessTokenTTL: options.life, accessTokenFormat: "opaque" };
      },
    },
  },
});
answer = provider.callback();

const metadata = `${base}/.well-known/oauth-protected-resource/mcp`;
const refuse = (response, status, more) => {
  response.writeHead(status, { "www-authenticate": `Bearer resource_metadata="${metadata}", ${more}`, "content-type": "application/json" });
  response.end('{"error":"no"}');
};
const named = (name) => ({ name, inputSchema: { type: "object" } });

serve = async (request, response) => {
  const json = (value, status = 200) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };
  if (request.url === "/.well-known/oauth-protected-resource/mcp")
    return json({ resource, authorization_servers: [issuer], scopes_supported: ["mcp:read"] });
  if (request.method !== "POST") return response.writeHead(405).end();
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const message = JSON.parse(Buffer.concat(chunks));
  const written = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  const token = written && ((await provider.AccessToken.find(written)) ?? (await provider.ClientCredentials.find(written)));
  if (!token || token.isExpired || token.aud !== resource) return refuse(response, 401, 'scope="mcp:read"');
  const scopes = (token.scope ?? "").split(" ");
  if (message.params?.name === "write" && !scopes.includes("mcp:write"))
    return refuse(response, 403, 'error="insufficient_scope", scope="mcp:write"');
  if (message.id === undefined) return response.writeHead(202).end();
  const result = (value) => json({ jsonrpc: "2.0", id: message.id, result: value });
  if (message.method === "initialize")
    return result({ protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: { name: "tools", version: "1" } });
  if (message.method === "tools/list") return result({ tools: ["whoami", "write", "leak"].map(named) });
  if (message.method === "tools/call") {
    const text = message.params.name === "leak" ? `authorization: Bearer ${written}` : `${token.accountId ?? "a machine"}: ${token.scope}`;
    return result({ content: [{ type: "text", text }] });
  }
  json({ jsonrpc: "2.0", id: message.id, error: { code: -32601, message: "no such method" } });
};

console.log(JSON.stringify({ issuer, resource }));
process.stdin.resume().on("end", () => process.exit());
