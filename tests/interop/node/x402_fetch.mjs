// The unmodified @x402/fetch pays for a call, on a local chain and through a facilitator of the
// reference packages; then the credit key it got for the change pays for more calls.
import assert from "node:assert/strict";
import { decodePaymentResponseHeader, wrapFetchWithPayment, wrapFetchWithPaymentFromConfig, x402Client, x402HTTPClient } from "@x402/fetch";
import { ExactEvmScheme } from "@x402/evm";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/client";
import OpenAI from "openai";
import { getAddress } from "viem";
import { NETWORK, clientPayer, payer, secondPayer, transfers } from "../chain/chain.mjs";
import { assertBalance, assertCharged, balanceNano, costNano, env, run, upstreamHits } from "./harness.mjs";
import {
  NANO_PER_ATOMIC,
  assertMoved,
  assertStreamed,
  call,
  chain,
  facilitatorCalls,
  payTo,
  readStream,
  streamed,
  unpaid,
  url,
  withKey,
} from "./x402.mjs";

/** How many times one payment is sent at once. */
const COPIES = 64;

/** What the scenarios below pass on: the key for the change, and what has to be left on it, in nano-USD. */
const change = { key: undefined, left: 0n };

async function paysAndStreams() {
  const init = call("A short story, please.", streamed);
  const from = payer().address;
  const { offer } = await unpaid(init);
  const [hits, moved] = [await upstreamHits(), (await transfers(chain, from, payTo)).length];

  const pay = wrapFetchWithPaymentFromConfig(fetch, {
    schemes: [{ network: NETWORK, client: new ExactEvmScheme(payer()) }],
  });
  const response = await pay(url, init);
  assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
  const settled = decodePaymentResponseHeader(response.headers.get("payment-response"));
  const key = response.headers.get("farthing-key");
  const answer = await readStream(response.body);
  assert.match(key ?? "", /^fk_test_/);
  assert.equal(await upstreamHits(), hits + 1);
  await assertStreamed(answer, init);

  assert.equal(settled.success, true);
  assert.equal(settled.network, NETWORK);
  assert.equal(getAddress(settled.payer), from);
  await assertMoved(settled.transaction, from, BigInt(offer.amount));
  assert.equal((await transfers(chain, from, payTo)).length, moved + 1);

  const cost = costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
  const left = BigInt(offer.amount) * NANO_PER_ATOMIC - cost;
  await assertBalance(key, left);
  Object.assign(change, { key, left });
}

/** The package as it is against a seller that speaks version 1 only: what it reads of version 2 is taken away. */
async function paysAsVersion1() {
  const init = call("As it was in the beginning.");
  const from = clientPayer(4).address;
  const { body } = await unpaid(init);
  const moved = (await transfers(chain, from, payTo)).length;
  const asked = (await facilitatorCalls()).length;

  const sent = [];
  const old = async (request) => {
    sent.push(request);
    const response = await fetch(request);
    const headers = new Headers(response.headers);
    headers.delete("payment-required");
    return new Response(response.body, { status: response.status, headers });
  };
  const client = new x402Client().registerV1("base-sepolia", new ExactEvmSchemeV1(clientPayer(4)));
  const response = await wrapFetchWithPayment(old, client)(url, init);
  assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
  assert.equal(sent.length, 2);
  assert.ok(sent[1].headers.has("x-payment"), "it did not pay as version 1");
  assert.equal(response.headers.get("payment-response"), null, "an answer to version 1 speaks version 2");
  const settled = decodePaymentResponseHeader(response.headers.get("x-payment-response"));
  const { usage } = await response.json();

  const offer = body.accepts.find((o) => o.network === "base-sepolia");
  assert.deepEqual([settled.success, settled.network, getAddress(settled.payer)], [true, "base-sepolia", from]);
  await assertMoved(settled.transaction, from, BigInt(offer.maxAmountRequired));
  assert.equal((await transfers(chain, from, payTo)).length, moved + 1);
  assert.deepEqual((await facilitatorCalls(asked)).map((c) => c.op), ["settle"]);
  const left = BigInt(offer.maxAmountRequired) * NANO_PER_ATOMIC - costNano(usage.prompt_tokens, usage.completion_tokens);
  await assertBalance(response.headers.get("farthing-key"), left);
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
  "pays-as-version-1": paysAsVersion1,
  "key-spends-change": keySpendsChange,
  "disconnect-is-charged": disconnect,
  "one-payment-64-times": sentAtOnce,
});
