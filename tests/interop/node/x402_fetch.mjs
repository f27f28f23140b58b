// The unmodified @x402/fetch pays for a call, on a local chain and through a facilitator of the
// reference packages; then the credit key it got for the change pays for more calls.
import assert from "node:assert/strict";
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig, x402Client, x402HTTPClient } from "@x402/fetch";
import { ExactEvmScheme } from "@x402/evm";
import OpenAI from "openai";
import { getAddress, parseEventLogs } from "viem";
import { NETWORK, TOKEN, TOKEN_ABI, chainClient, payer, secondPayer, transfers } from "../chain/chain.mjs";
import { assertBalance, assertCharged, balanceNano, costNano, env, run, upstreamHits } from "./harness.mjs";

/** How many times one payment is sent at once. */
const COPIES = 64;
/** One atomic unit of USDC in billionths of a dollar. */
const NANO_PER_ATOMIC = 1000n;

const chain = chainClient(env("RPC_URL"));
const payTo = getAddress(env("PAY_TO"));
const url = `${env("GATEWAY_URL")}/v1/chat/completions`;

const call = (content, more = {}) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ model: "gpt-play", max_tokens: 64, messages: [{ role: "user", content }], ...more }),
});
const streamed = { stream: true, stream_options: { include_usage: true } };
const withKey = (key, init) => ({ ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } });

/** Reads a streamed chat completion: its text, its usage, and for how long output kept arriving. */
async function readStream(response) {
  const decoder = new TextDecoder();
  const arrivals = [];
  let text = "";
  for await (const bytes of response.body) {
    arrivals.push(performance.now());
    text += decoder.decode(bytes, { stream: true });
  }
  const data = text.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
  assert.equal(data.at(-1), "[DONE]");
  const chunks = data.slice(0, -1).map((line) => JSON.parse(line));
  return {
    text: chunks.map((c) => c.choices[0]?.delta?.content ?? "").join(""),
    usage: chunks.at(-1).usage,
    reads: arrivals.length,
    ms: arrivals.at(-1) - arrivals[0],
  };
}

/** The x402 offer on our network in an unpaid answer. */
async function unpaid(init) {
  const response = await fetch(url, init);
  assert.equal(response.status, 402);
  assert.match(response.headers.get("cache-control") ?? "", /no-store/);
  const challenge = JSON.parse(Buffer.from(response.headers.get("payment-required"), "base64").toString());
  const offer = challenge.accepts.find((o) => o.network === NETWORK && o.scheme === "exact");
  assert.ok(offer, `no exact offer on ${NETWORK}`);
  return { challenge, offer, body: await response.json() };
}

/** What the scenarios below pass on: the key for the change, and what has to be left on it, in nano-USD. */
const change = { key: undefined, left: 0n };

async function paysAndStreams() {
  const init = call("A short story, please.", streamed);
  const from = payer().address;
  const [hits, moved] = [await upstreamHits(), (await transfers(chain, from, payTo)).length];

  const { offer } = await unpaid(init);
  assert.equal(getAddress(offer.asset), TOKEN);
  assert.equal(getAddress(offer.payTo), payTo);
  assert.equal(await upstreamHits(), hits, "an unpaid call reached the upstream");

  // How long the upstream itself takes for this answer: a gateway that gathers it first would hand it over at once.
  const direct = await readStream(await fetch(`${env("UPSTREAM_URL")}/v1/chat/completions`, init));
  assert.ok(direct.ms >= 20, `the mock upstream streams for ${direct.ms} ms only: too short to tell`);

  const pay = wrapFetchWithPaymentFromConfig(fetch, {
    schemes: [{ network: NETWORK, client: new ExactEvmScheme(payer()) }],
  });
  const response = await pay(url, init);
  assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
  const settled = decodePaymentResponseHeader(response.headers.get("payment-response"));
  const key = response.headers.get("farthing-key");
  const answer = await readStream(response);

  assert.ok(answer.text.length > 0);
  assert.ok(answer.reads > 1, "the answer came in one piece");
  assert.ok(answer.ms >= direct.ms / 2, `output arrived within ${answer.ms} ms, from the upstream in ${direct.ms} ms`);
  assert.match(key ?? "", /^fk_test_/);

  assert.equal(settled.success, true);
  assert.equal(settled.network, NETWORK);
  assert.equal(getAddress(settled.payer), from);
  const receipt = await chain.getTransactionReceipt({ hash: settled.transaction });
  assert.equal(receipt.status, "success");
  const [log, ...others] = parseEventLogs({ abi: TOKEN_ABI, eventName: "Transfer", logs: receipt.logs });
  assert.equal(others.length, 0);
  assert.equal(getAddress(log.address), TOKEN);
  assert.deepEqual([log.args.from, log.args.to, log.args.value], [from, payTo, BigInt(offer.amount)]);
  assert.equal((await transfers(chain, from, payTo)).length, moved + 1);
  // One call of our own to the upstream, one through the gateway.
  assert.equal(await upstreamHits(), hits + 2);

  const left = log.args.value * NANO_PER_ATOMIC - costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
  await assertBalance(key, left);
  Object.assign(change, { key, left });
}

async function keySpendsChange() {
  assert.ok(change.key, "no key from the paid call");
  const from = payer().address;
  const [hits, moved] = [await upstreamHits(), (await transfers(chain, from, payTo)).length];

  const response = await fetch(url, withKey(change.key, call("Something else.")));
  assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
  assert.equal(response.headers.get("payment-response"), null);
  const plain = (await response.json()).usage;

  const sdk = new OpenAI({ baseURL: `${env("GATEWAY_URL")}/v1`, apiKey: change.key });
  const { usage } = await sdk.chat.completions.create(JSON.parse(call("And more.").body));

  assert.equal(await upstreamHits(), hits + 2);
  assert.equal((await transfers(chain, from, payTo)).length, moved, "a call with a key moved money on the chain");
  change.left -= costNano(plain.prompt_tokens, plain.completion_tokens);
  change.left -= costNano(usage.prompt_tokens, usage.completion_tokens);
  await assertBalance(change.key, change.left);
}

async function sentAtOnce() {
  const init = call("One payment, many copies.");
  const from = secondPayer().address;
  const [hits, moved] = [await upstreamHits(), (await transfers(chain, from, payTo)).length];

  // The client's own parts sign the payment; only the sending is ours.
  const { challenge, offer } = await unpaid(init);
  const client = new x402Client().register(NETWORK, new ExactEvmScheme(secondPayer()));
  const payment = new x402HTTPClient(client).encodePaymentSignatureHeader(await client.createPaymentPayload(challenge));
  const paid = { ...init, headers: { ...init.headers, ...payment } };
  const send = async () => {
    const response = await fetch(url, paid);
    return { status: response.status, key: response.headers.get("farthing-key"), body: await response.text() };
  };
  const answers = await Promise.all(Array.from({ length: COPIES }, send));

  const count = (status) => answers.filter((a) => a.status === status).length;
  const statuses = [...new Set(answers.map((a) => a.status))].map((s) => `${count(s)} x ${s}`).join(", ");
  assert.ok(count(200) >= 1, statuses);
  assert.equal(count(200) + count(409), COPIES, statuses);
  assert.equal(new Set(answers.filter((a) => a.status === 200).map((a) => a.body)).size, 1, "two different answers");
  const keys = answers.map((a) => a.key).filter((key) => key !== null);
  assert.equal(keys.length, 1, `${keys.length} answers carry a key`);
  assert.equal(await upstreamHits(), hits + 1);

  const events = await transfers(chain, from, payTo);
  assert.equal(events.length, moved + 1);
  assert.equal(events.at(-1).args.value, BigInt(offer.amount));
  const { usage } = JSON.parse(answers.find((a) => a.status === 200).body);
  const left = BigInt(offer.amount) * NANO_PER_ATOMIC - costNano(usage.prompt_tokens, usage.completion_tokens);
  await assertBalance(keys[0], left);

  // Afterwards the same request gets the stored outcome, without the key: the payment is public on the chain by now.
  const again = await send();
  assert.ok([200, 409].includes(again.status), `sent again: ${again.status}`);
  assert.equal(again.key, null);
  // Any other request with this payment is refused, and not offered to pay again.
  const other = await fetch(url, { ...paid, body: call("Another question.").body });
  assert.equal(other.status, 403, "the payment on another request");
  assert.equal(other.headers.get("payment-required"), null);
  assert.equal(await upstreamHits(), hits + 1);
  assert.equal((await transfers(chain, from, payTo)).length, moved + 1);
  await assertBalance(keys[0], left);
}

async function disconnect() {
  const key = env("FARTHING_KEY");
  const before = await balanceNano(key);
  // A ceiling above the balance: all of it is held while the answer streams.
  const init = withKey(key, call("Stop early.", { ...streamed, max_tokens: 1_000_000 }));
  const abort = new AbortController();
  const response = await fetch(url, { ...init, signal: abort.signal });
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  await response.body.getReader().read();
  abort.abort();
  // What was delivered is charged, and the rest of the hold comes back: enough for another call.
  await assertCharged(key, before, before / 2n);
  const answer = await fetch(url, withKey(key, call("Still alive?")));
  assert.equal(answer.status, 200, answer.ok ? "" : await answer.text());
}

await run({
  "pays-and-streams": paysAndStreams,
  "key-spends-change": keySpendsChange,
  "disconnect-is-charged": disconnect,
  "one-payment-64-times": sentAtOnce,
});
