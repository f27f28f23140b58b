// mppx signs requests, as Web Bot Auth and Visa TAP have it, before a gateway that lets nobody in who has not signed. And it
// judges what our own client signs.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Store } from "mppx";
import { Client } from "mppx/attestation";
import { Client as Tap } from "mppx/attestation/tap";
import { Client as WebBotAuth, Server as WebBotAuthServer } from "mppx/attestation/web-bot-auth";
import { Mppx, evm } from "mppx/client";
import { Request as MppxRequest } from "mppx/server";
import { CHAIN_ID, clientPayer, transfers } from "../chain/chain.mjs";
import { call, url } from "./calls.mjs";
import { assertBalance, balanceNano, costNano, env, run, upstreamHits } from "./harness.mjs";
import { onceCall, onceUrl } from "./l402.mjs";
import { assertReceipt } from "./mpp.mjs";
import { chain, payTo } from "./x402.mjs";

/** Test keys, whose public halves stand in the gateway's list: of the seeds 0a and 0b, 32 times. */
const BOT = { kty: "OKP", crv: "Ed25519", d: "CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo", x: "Q6cucUQBdi32a2jCbfvfJoKq7J8kdOykYT5CSg-6_Tw" };
const AGENT = { kty: "OKP", crv: "Ed25519", d: "CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws", x: "Zr5-Myx6RTMyvZ0Kf32wVfXF7xoGraZtmLOftoEMRzo" };
const BOT_KEYID = "r4thRn8KdhhgGDrzOwmSwySqMcXeIdd9SG333J-ZNtU";
/** What the directory of another network calls the second. */
const AGENT_KEYID = "agent-2026-11";

const imported = (jwk) => crypto.subtle.importKey("jwk", jwk, "Ed25519", true, ["sign"]);
const bot = async (more = {}) =>
  WebBotAuth.signer({ key: await imported(BOT), keyId: BOT_KEYID, signatureAgent: "https://agent.example", ...more });
const agent = async (intent, more = {}) => Tap.signer({ key: await imported(AGENT), keyId: AGENT_KEYID, intent, ...more });

const withKey = (init) => ({ ...init, headers: { ...init.headers, authorization: `Bearer ${env("FARTHING_KEY")}` } });

/** Fails unless the answer is that a signature is missing or bad, and nobody is asked to pay. */
async function assertRefused(response, name, code) {
  const { error } = await response.json();
  assert.deepEqual([response.status, error.code, error.money], [401, code, "nothing_taken"], name);
  assert.equal(response.headers.get("www-authenticate"), null, name);
}

async function botIsLetIn() {
  const signed = Client.wrapFetch(fetch, await bot());
  const before = await balanceNano(env("FARTHING_KEY"));
  const response = await signed(url, withKey(call("It is I.")));
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  const { usage } = await response.json();
  await assertBalance(env("FARTHING_KEY"), before - costNano(usage.prompt_tokens, usage.completion_tokens));
}

async function strangersAreNot() {
  const [before, hits] = [await balanceNano(env("FARTHING_KEY")), await upstreamHits()];
  const request = () => new Request(url, withKey(call("Who is there?")));
  const { headers } = await (await bot()).sign(request());
  const with_ = (change) => {
    const changed = new Headers(headers);
    change(changed);
    return fetch(url, { ...withKey(call("Who is there?")), headers: changed });
  };
  const asSomebody = async (signer) => Client.wrapFetch(fetch, await signer)(request());
  const renamed = async () =>
    WebBotAuth.signer({ key: await imported(AGENT), keyId: BOT_KEYID, signatureAgent: "https://agent.example" });
  const flipped = (text) => text.replace(/:./, (two) => (two === ":A" ? ":B" : ":A"));
  const rows = [
    ["unsigned", "signature_missing", await fetch(request())],
    ["by a key of another name", "signature_invalid", await asSomebody(renamed())],
    ["under another origin", "signature_unverified", await asSomebody(bot({ signatureAgent: "https://other.example" }))],
    ["that lasts too long", "signature_invalid", await asSomebody(bot({ expiresIn: 3600 }))],
    ["with another signature", "signature_invalid", await with_((h) => h.set("signature", flipped(h.get("signature"))))],
    ["without its input", "signature_invalid", await with_((h) => h.delete("signature-input"))],
    [
      "of another agent's header",
      "signature_unverified",
      await with_((h) => h.set("signature-agent", 'webbot="https://other.example"')),
    ],
  ];
  for (const [name, code, response] of rows) await assertRefused(response, name, code);
  assert.deepEqual([await balanceNano(env("FARTHING_KEY")), await upstreamHits()], [before, hits]);
  // What was signed is good once.
  const good = await with_(() => {});
  assert.equal(good.status, 200, good.ok ? "" : await good.text());
  await assertRefused(await with_(() => {}), "signed once, sent twice", "signature_invalid");
  assert.equal(await upstreamHits(), hits + 1);
}

/** Both requests are signed, that which asks and that which pays; each with a nonce of its own. */
async function tapPays() {
  const account = clientPayer(30);
  const sent = [];
  const looking = async (input, init) => {
    sent.push(new Headers(input.headers ?? init?.headers).get("signature-input"));
    return fetch(input, init);
  };
  const method = evm.charge({ account, currencies: [evm.assets.baseSepolia.USDC], maxAmount: "0.05", networks: [CHAIN_ID] });
  const attestation = { tap: await agent("payment") };
  const { fetch: pay } = Mppx.create({ methods: [method], polyfill: false, fetch: looking, attestation });
  const response = await pay(onceUrl, onceCall("Signed and paid."));
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  assertReceipt(response, "evm");
  assert.equal(sent.length, 2);
  assert.equal(new Set(sent).size, 2);
  assert.ok(sent.every((input) => input.includes('tag="agent-payer-auth"')), sent.join("\n"));
  assert.equal((await transfers(chain, account.address, payTo)).length, 1);
}

/** Who has only come to look may not buy; and nobody is asked to pay before he is known. */
async function tapMustMeanToPay() {
  const hits = await upstreamHits();
  const browsing = await Client.wrapFetch(fetch, await agent("browse"))(onceUrl, onceCall("Just looking."));
  await assertRefused(browsing, "to browse", "signature_missing");
  const bare = await fetch(onceUrl, onceCall("Unsigned."));
  await assertRefused(bare, "unsigned", "signature_missing");
  assert.equal(await upstreamHits(), hits);
}

/** What our client signs under the name of an agent, as the other side of mppx reads it. */
async function ourClientIsJudged() {
  const asked = [];
  const verifier = WebBotAuthServer.verifier({
    keyResolver({ keyId, signatureAgent }) {
      asked.push([keyId, `${signatureAgent}`]);
      return crypto.subtle.importKey("jwk", { kty: BOT.kty, crv: BOT.crv, x: BOT.x }, "Ed25519", true, ["verify"]);
    },
    nonceStore: Store.memory(),
  });
  const verdicts = [];
  let last;
  const server = http.createServer(
    MppxRequest.toNodeListener(async (request) => {
      last = request.clone();
      verdicts.push(await verifier.verify(request));
      return Response.json({ done: true });
    }),
  );
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const folder = mkdtempSync(join(tmpdir(), "farthing-agent-"));
  const identity = join(folder, "identity.json");
  writeFileSync(identity, JSON.stringify(BOT), { mode: 0o600 });
  const target = `http://127.0.0.1:${server.address().port}/paid?for=nothing`;
  const args = ["curl", "--identity", identity, "--agent", "https://agent.example", "--json", "{}", target];
  const ended = await promisify(execFile)(env("FARTHING_BIN"), args, { env: { ...process.env, HOME: folder, FARTHING_KEY: "" } });
  assert.deepEqual(JSON.parse(ended.stdout), { done: true });
  assert.deepEqual(verdicts.map(({ status }) => status), ["verified"], JSON.stringify(verdicts));
  assert.equal(verdicts[0].value.keyId, BOT_KEYID);
  assert.deepEqual(asked, [[BOT_KEYID, "https://agent.example"]]);
  // The other side is awake: the same request again, and one for another host, it does not take.
  assert.equal((await verifier.verify(last.clone())).status, "invalid");
  const elsewhere = new Request("http://other.example/paid", { headers: last.headers });
  assert.equal((await verifier.verify(elsewhere)).status, "invalid");
  server.close();
}

await run({
  "web-bot-auth-lets-in": botIsLetIn,
  "web-bot-auth-keeps-out": strangersAreNot,
  "tap-signs-and-pays": tapPays,
  "tap-has-to-mean-payment": tapMustMeanToPay,
  "our-client-is-judged-by-mppx": ourClientIsJudged,
});
