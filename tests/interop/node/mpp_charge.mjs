// The unmodified mppx pays for calls by its `evm` method: on a local chain, through a facilitator of the reference
// packages for x402.
import assert from "node:assert/strict";
import { Mppx, evm } from "mppx/client";
import OpenAI from "openai";
import { CHAIN_ID, clientPayer, transfers } from "../chain/chain.mjs";
import { assertStreamed, call, readStream, streamed, url } from "./calls.mjs";
import { assertBalance, costNano, env, run, upstreamHits } from "./harness.mjs";
import { onceCall, onceUrl } from "./l402.mjs";
import { FIXED_NANO, altered, assertReceipt, challenged, fragileUpstream, fragileUrl, of, problem, secretsIn } from "./mpp.mjs";
import { NANO_PER_ATOMIC, assertMoved, chain, payTo } from "./x402.mjs";

const COPIES = 64;

/** The client as its documentation has it, with what it sends and receives looked at. */
function client(account) {
  const sent = [];
  const method = evm.charge({ account, currencies: [evm.assets.baseSepolia.USDC], maxAmount: "0.05", networks: [CHAIN_ID] });
  const looking = async (input, init) => {
    const headers = new Headers(init?.headers ?? input.headers);
    sent.push({ accepts: headers.get("accept-payment"), authorization: headers.get("authorization"), other: headers.get("payment-authorization") });
    return fetch(input, init);
  };
  return { sent, mppx: Mppx.create({ methods: [method], polyfill: false, fetch: looking }) };
}

const moved = async (account) => (await transfers(chain, account.address, payTo)).length;
/** What a charge asks for, in billionths of a dollar. */
const asked = (challenge) => BigInt(challenge.request.amount) * NANO_PER_ATOMIC;

async function pays() {
  const account = clientPayer(15);
  const init = call("Machine to machine.");
  const { challenges } = await challenged(url, init, { "accept-payment": "evm/charge" });
  const charge = of(challenges, "evm", "charge");
  const [hits, before] = [await upstreamHits(), await moved(account)];

  const { mppx, sent } = client(account);
  const response = await mppx.fetch(url, init);
  assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
  assert.deepEqual(sent.map(({ accepts }) => accepts), ["evm/charge", "evm/charge"]);
  assert.deepEqual([sent[0].authorization, /^Payment /.test(sent[1].authorization)], [null, true]);
  const receipt = assertReceipt(response, "evm");
  await assertMoved(receipt.reference, account.address, BigInt(charge.request.amount));
  assert.deepEqual([await upstreamHits(), await moved(account)], [hits + 1, before + 1]);
  const { usage } = await response.json();
  const left = asked(charge) - costNano(usage.prompt_tokens, usage.completion_tokens);
  await assertBalance(response.headers.get("farthing-key"), left);
}

async function paysAndStreams() {
  const account = clientPayer(16);
  const init = call("Machine to machine, word by word.", streamed);
  const { challenges } = await challenged(url, init);
  const response = await client(account).mppx.fetch(url, init);
  assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
  const receipt = assertReceipt(response, "evm");
  const charge = of(challenges, "evm", "charge");
  await assertMoved(receipt.reference, account.address, BigInt(charge.request.amount));
  const answer = await readStream(response.body);
  await assertStreamed(answer, init);
  const cost = costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
  await assertBalance(response.headers.get("farthing-key"), asked(charge) - cost);
}

/** An SDK of a provider keeps its own key in `Authorization`: mppx pays beside it. */
async function paysBesideAKey() {
  const account = clientPayer(17);
  const before = await moved(account);
  const { mppx, sent } = client(account);
  const sdk = new OpenAI({ baseURL: `${env("GATEWAY_URL")}/v1`, apiKey: "sk-of-somebody-else", fetch: mppx.fetch, maxRetries: 0 });
  const answer = await sdk.chat.completions.create(JSON.parse(call("Beside a key.").body));
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.equal(await moved(account), before + 1);
  assert.deepEqual(sent.map(({ authorization }) => authorization), ["Bearer sk-of-somebody-else", "Bearer sk-of-somebody-else"]);
  assert.match(sent[1].other, /^Payment /);
}

/** What mppx's own proxy gets wrong: its money stays, and its answer says that it was paid. */
async function failedUpstreamIsFree() {
  const account = clientPayer(18);
  const upstream = await fragileUpstream([500, 200]);
  try {
    const init = { ...call(""), body: "{}" };
    const { mppx, sent } = client(account);
    const failed = await mppx.fetch(fragileUrl, init);
    assert.ok(failed.status >= 500, `${failed.status}`);
    assert.equal(failed.headers.get("payment-receipt"), null, "a receipt for a failure");
    assert.equal(await moved(account), 1);
    const key = failed.headers.get("farthing-key");
    const [{ args }] = await transfers(chain, account.address, payTo);
    const paid = args.value * NANO_PER_ATOMIC;
    await assertBalance(key, paid);
    assert.equal(sent.length, 2, "it paid again");

    // The money is there for the next call.
    const again = await fetch(fragileUrl, { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } });
    assert.equal(again.status, 200, again.ok ? "" : await again.text());
    await assertBalance(key, paid - FIXED_NANO);
    assert.equal(await moved(account), 1);
    assert.deepEqual(upstream.seen.flatMap(secretsIn), []);
  } finally {
    await upstream.close();
  }
}

/** Signs, and sends by hand. */
async function signed(account, target, init) {
  const { mppx } = client(account);
  const unpaid = await fetch(target, { ...init, headers: { ...init.headers, "accept-payment": "evm/charge" } });
  assert.equal(unpaid.status, 402);
  return mppx.createCredential(unpaid);
}

const paidWith = (credential, init) => ({ ...init, headers: { ...init.headers, authorization: credential } });

async function sentAtOnce() {
  const account = clientPayer(19);
  const init = onceCall("One payment, many copies.");
  const credential = await signed(account, onceUrl, init);
  const hits = await upstreamHits();
  const send = async () => {
    const response = await fetch(onceUrl, paidWith(credential, init));
    return { status: response.status, key: response.headers.get("farthing-key"), body: await response.text() };
  };
  const answers = await Promise.all(Array.from({ length: COPIES }, send));
  const count = (status) => answers.filter((a) => a.status === status).length;
  const statuses = [...new Set(answers.map((a) => a.status))].map((s) => `${count(s)} x ${s}`).join(", ");
  assert.ok(count(200) >= 1 && count(200) + count(409) === COPIES, statuses);
  assert.equal(new Set(answers.filter((a) => a.status === 200).map((a) => a.body)).size, 1, "two different answers");
  assert.equal(answers.filter((a) => a.key !== null).length, 1, "more than one answer carries a key");
  assert.deepEqual([await upstreamHits(), await moved(account)], [hits + 1, 1]);

  // The same request again is told what came of it; any other is refused, and not offered to pay again.
  const again = await send();
  assert.deepEqual([again.status, again.key], [200, null]);
  const other = await fetch(onceUrl, paidWith(credential, onceCall("Another question.")));
  assert.equal(other.status, 403);
  assert.equal(other.headers.get("www-authenticate"), null);
  assert.equal(problem(await other.json()), "verification-failed");
  assert.deepEqual([await upstreamHits(), await moved(account)], [hits + 1, 1]);
}

async function alteredIsRefused() {
  const account = clientPayer(20);
  const init = onceCall("As it was signed.");
  const credential = await signed(account, onceUrl, init);
  const elsewhere = await signed(account, url, call("Of another route."));
  const hits = await upstreamHits();
  const request = (change) => (wire) => {
    const asked = JSON.parse(Buffer.from(wire.challenge.request, "base64url"));
    change(asked);
    wire.challenge.request = Buffer.from(JSON.stringify(asked)).toString("base64url");
  };
  const rows = [
    ["less", request((asked) => (asked.amount = "1")), "invalid-challenge"],
    ["for another payee", request((asked) => (asked.recipient = account.address)), "invalid-challenge"],
    ["of another realm", ({ challenge }) => (challenge.realm = "elsewhere.example"), "invalid-challenge"],
    ["that lasts longer", ({ challenge }) => (challenge.expires = "2999-01-01T00:00:00Z"), "invalid-challenge"],
    ["that lasts for ever", ({ challenge }) => delete challenge.expires, "invalid-challenge"],
    ["of an id of one's own", ({ challenge }) => (challenge.id = `A${challenge.id.slice(1)}B`), "invalid-challenge"],
    ["without a payload", (wire) => delete wire.payload, "malformed-credential"],
    ["signed by another", ({ payload }) => (payload.from = payTo), "verification-failed"],
    ["with another nonce", ({ payload }) => (payload.nonce = `0x${"11".repeat(32)}`), "verification-failed"],
    ["of less than was asked", ({ payload }) => (payload.value = "1"), "payment-insufficient"],
  ];
  for (const [name, change, type] of rows) {
    const response = await fetch(onceUrl, paidWith(altered(credential, change), init));
    assert.equal(response.status, 402, name);
    assert.match(response.headers.get("www-authenticate") ?? "", /Payment /, name);
    const told = problem(await response.json());
    assert.equal(told, type, name);
  }
  const other = altered(credential, ({ challenge }) => (challenge.method = "barter"));
  const unknown = await fetch(onceUrl, paidWith(other, init));
  assert.deepEqual([unknown.status, problem(await unknown.json())], [400, "method-unsupported"]);
  assert.equal(unknown.headers.get("www-authenticate"), null);
  const crossed = await fetch(onceUrl, paidWith(elsewhere, init));
  assert.deepEqual([crossed.status, problem(await crossed.json())], [402, "invalid-challenge"]);
  assert.deepEqual([await upstreamHits(), await moved(account)], [hits, 0]);
  // After all that it is still good.
  const response = await fetch(onceUrl, paidWith(credential, init));
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  assert.deepEqual([await upstreamHits(), await moved(account)], [hits + 1, 1]);
}

await run({
  "charge-pays": pays,
  "charge-pays-and-streams": paysAndStreams,
  "charge-beside-a-foreign-key": paysBesideAKey,
  "charge-of-a-failed-call-is-free": failedUpstreamIsFree,
  "charge-sent-64-times": sentAtOnce,
  "charge-altered-is-refused": alteredIsRefused,
});
