// What all clients that pay by x402 ask and look at here, whatever package they pay with.
import assert from "node:assert/strict";
import { getAddress, parseEventLogs } from "viem";
import { NETWORK, TOKEN, TOKEN_ABI, chainClient } from "../chain/chain.mjs";
import { url } from "./calls.mjs";
import { env, upstreamHits } from "./harness.mjs";

export { assertStreamed, call, readStream, streamed, url, withKey } from "./calls.mjs";

/** One atomic unit of USDC in billionths of a dollar. */
export const NANO_PER_ATOMIC = 1000n;

export const chain = chainClient(env("RPC_URL"));
export const payTo = getAddress(env("PAY_TO"));

/** The answer to an unpaid call. */
export async function challenged(init) {
  const hits = await upstreamHits();
  const response = await fetch(url, init);
  assert.equal(response.status, 402);
  assert.match(response.headers.get("cache-control") ?? "", /no-store/);
  const header = response.headers.get("payment-required");
  assert.ok(header.length < 2048, `a challenge of ${header.length} bytes`);
  assert.equal(await upstreamHits(), hits, "an unpaid call reached the upstream");
  return { challenge: JSON.parse(Buffer.from(header, "base64").toString()), body: await response.json() };
}

/** The answer to an unpaid call, with the first of its offers on the test chain that `wanted` takes. */
export async function unpaid(init, wanted = (offer) => offer.scheme === "exact") {
  const { challenge, body } = await challenged(init);
  const offer = challenge.accepts.find((o) => o.network === NETWORK && wanted(o));
  assert.ok(offer, `not among the offers: ${JSON.stringify(challenge.accepts)}`);
  assert.equal(getAddress(offer.asset), TOKEN);
  assert.equal(getAddress(offer.payTo), payTo);
  return { challenge, offer, body };
}

/** Fails unless this transaction moved exactly so much of the token, once, from the payer to us. */
export async function assertMoved(hash, from, value, to = payTo) {
  const receipt = await chain.getTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  const logs = parseEventLogs({ abi: TOKEN_ABI, eventName: "Transfer", logs: receipt.logs });
  const moved = logs.map((log) => [getAddress(log.address), log.args.from, log.args.to, log.args.value]);
  assert.deepEqual(moved, [[TOKEN, from, to, value]]);
}

/** What the facilitator was asked since `after` calls, oldest first. */
export async function facilitatorCalls(after = 0) {
  const calls = await (await fetch(`${env("FACILITATOR_URL")}/__calls`)).json();
  return calls.slice(after);
}

/** The same call to a model whose tokens cost less than one atomic unit. */
export const fine = (init) => ({ ...init, body: JSON.stringify({ ...JSON.parse(init.body), model: "fine-play" }) });
/** What such a call costs in billionths of a dollar: 0.1 and 0.4 USD per million tokens. */
export const fineCostNano = (usage) => BigInt(usage.prompt_tokens) * 100n + BigInt(usage.completion_tokens) * 400n;
/** Billionths of a dollar in whole atomic units, rounded up. */
export const atomicUp = (nano) => (nano + NANO_PER_ATOMIC - 1n) / NANO_PER_ATOMIC;

/** Asks again until the answer is good, for what happens behind a call. */
export async function until(ask, good, complaint) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const answer = await ask();
    if (good(answer)) return answer;
    if (Date.now() > deadline) assert.fail(complaint);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
