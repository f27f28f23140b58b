// What `farthing curl` signs, as others judge it: mppx's verifier of Web Bot Auth, and Node's own cryptography.
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { createHash, createPublicKey, verify } from "node:crypto";
import { mkdtempSync, readFileSync, statSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Store } from "mppx";
import { Server } from "mppx/attestation/web-bot-auth";
import { env, run } from "./harness.mjs";

const AGENT = "https://agent.example";
const home = mkdtempSync(join(tmpdir(), "farthing-agent-"));
const farthing = (...words) =>
  JSON.parse(execFileSync(env("FARTHING_BIN"), [...words, "--json"], { env: { HOME: home }, stdio: ["ignore", "pipe", "inherit"] }));
const made = farthing("key", "holder", "new");
const { d, ...jwk } = JSON.parse(readFileSync(made.file, "utf8"));

/** A server that lets in whom mppx's verifier knows, and says what it made of each request. */
async function judge() {
  const key = await crypto.subtle.importKey("jwk", jwk, "Ed25519", true, ["verify"]);
  const keyResolver = ({ signatureAgent, keyId }) => (signatureAgent === AGENT && keyId === made.thumbprint ? key : undefined);
  const verifier = Server.verifier({ keyResolver, nonceStore: Store.memory(), maxAge: 480 });
  const server = http.createServer(async (request, response) => {
    const headers = Object.entries(request.headers);
    const seen = new Request(`http://${request.headers.host}${request.url}`, { method: request.method, headers });
    const result = await verifier.verify(seen);
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(result));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}/v1/models?a=b`, close: () => server.close() };
}

const curl = async (url, ...words) => {
  const { stdout } = await promisify(execFile)(env("FARTHING_BIN"), ["curl", "-s", url, ...words], { env: { HOME: home } });
  return JSON.parse(stdout);
};

await run({
  async "mppx-knows-the-agent"() {
    const server = await judge();
    const first = await curl(server.url, "--agent", AGENT);
    assert.equal(first.status, "verified", JSON.stringify(first));
    assert.deepEqual([first.value.keyId, first.value.signatureAgent], [made.thumbprint, AGENT]);
    const second = await curl(server.url, "--agent", AGENT);
    assert.equal(second.status, "verified", JSON.stringify(second));
    assert.notEqual(first.value.nonce, second.value.nonce);
    const other = await curl(server.url, "--agent", "https://other.example");
    assert.notEqual(other.status, "verified", "nobody has that directory");
    const unsigned = await curl(server.url);
    assert.notEqual(unsigned.status, "verified");
    server.close();
  },

  async "key-pair-is-a-private-jwk"() {
    assert.equal(statSync(made.file).mode & 0o777, 0o600);
    assert.deepEqual([jwk.kty, jwk.crv, `ed25519:${jwk.x}`], ["OKP", "Ed25519", made.holder]);
    const canonical = JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x });
    assert.equal(createHash("sha256").update(canonical).digest("base64url"), made.thumbprint);
  },

  async "directory-is-signed-by-its-key"() {
    const { headers, body } = farthing("key", "holder", "directory", "agent.example");
    const [key] = JSON.parse(body).keys;
    assert.deepEqual([key.x, key.kid], [jwk.x, made.thumbprint]);
    const params = headers["signature-input"].slice("key0=".length);
    assert.match(params, /^\("@authority";req\);.*tag="http-message-signatures-directory"$/);
    const base = `"@authority";req: agent.example\n"@signature-params": ${params}`;
    const signature = Buffer.from(headers.signature.slice("key0=:".length, -1), "base64");
    const good = (text) => verify(null, Buffer.from(text), createPublicKey({ key, format: "jwk" }), signature);
    assert.deepEqual([good(base), good(base.replace("agent.", "other."))], [true, false]);
  },
});
