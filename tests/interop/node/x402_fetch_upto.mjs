// The unmodified @x402/fetch signs a ceiling, and what was used is taken of it.
import assert from "node:assert/strict";
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { NETWORK, approvePermit, clientPayer, facilitatorAccount, tokenBalance, transfers } from "../chain/chain.mjs";
import { assertBalance, env, run, upstreamHits } from "./harness.mjs";
import {
  NANO_PER_ATOMIC,
  assertStreamed,
  atomicUp,
  call,
  chain,
  facilitatorCalls,
  fine,
  fineCostNano,
  payTo,
  readStream,
  streamed,
  unpaid,
  until,
  url,
} from "./x402.mjs";

const account = clientPayer(2);
const pay = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [{ network: NETWORK, client: new UptoEvmScheme(account) }],
});
const upto = (offer) => offer.scheme === "upto";
const moved = () => transfers(chain, account.address, payTo);

/** The payer's account: its key, and what rounding up has left on it, in billionths of a dollar. */
const dust = { key: undefined, nano: 0n };

/** Pays for one call and waits for its settlement; `read` gets the usage out of the answer. */
async function paid(init, read) {
  const { offer } = await unpaid(init, upto);
  assert.equal(offer.extra.facilitatorAddress, facilitatorAccount().address);
  const [hits, asked, before] = [await upstreamHits(), (await facilitatorCalls()).length, await moved()];
  const had = await tokenBalance(chain, account.address);

  const response = await pay(url, init);
  assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
  const answer = await read(response);
  assert.equal(await upstreamHits(), hits + 1);

  const cost = fineCostNano(answer.usage);
  const metered = atomicUp(cost);
  assert.ok(metered < BigInt(offer.amount), `metered ${metered} of ${offer.amount}: too near to tell them apart`);
  const after = await until(moved, (events) => events.length > before.length, "nothing was settled");
  assert.deepEqual(after.slice(before.length).map((event) => event.args.value), [metered]);
  assert.equal(await tokenBalance(chain, account.address), had - metered);
  const calls = (await facilitatorCalls(asked)).map(({ op, scheme, amount }) => [op, scheme, amount]);
  assert.deepEqual(calls, [
    ["verify", "upto", offer.amount],
    ["settle", "upto", String(metered)],
  ]);

  // A result in the head is not owed: it is known only after the last byte. If it is there, it tells what was taken.
  const result = response.headers.get("payment-response");
  if (result !== null) assert.equal(decodePaymentResponseHeader(result).amount, String(metered));
  dust.key ??= response.headers.get("farthing-key");
  dust.nano += metered * NANO_PER_ATOMIC - cost;
  assert.match(dust.key ?? "", /^fk_test_/);
  await assertBalance(dust.key, dust.nano);
  return answer;
}

await run({
  async "upto-without-allowance-is-412"() {
    await approvePermit(env("RPC_URL"), account, 0n);
    const [hits, asked] = [await upstreamHits(), (await facilitatorCalls()).length];
    const response = await pay(url, fine(call("Without allowance.")));
    assert.equal(response.status, 412, await response.clone().text());
    const challenge = JSON.parse(Buffer.from(response.headers.get("payment-required"), "base64").toString());
    assert.equal(challenge.error, "permit2_allowance_required");
    assert.ok(challenge.accepts.some(upto));
    assert.deepEqual((await facilitatorCalls(asked)).map((c) => c.op), ["verify"]);
    assert.equal(await upstreamHits(), hits);
    assert.equal((await moved()).length, 0);
  },

  async "upto-takes-what-was-used"() {
    await approvePermit(env("RPC_URL"), account);
    await paid(fine(call("Not more than it took.")), (response) => response.json());
  },

  async "upto-streams"() {
    await approvePermit(env("RPC_URL"), account);
    const init = fine(call("Not more than it took, word by word.", streamed));
    await assertStreamed(await paid(init, (response) => readStream(response.body)), init);
  },
});
