// The unmodified @x402/fetch pays by Permit2.
import assert from "node:assert/strict";
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { ExactEvmScheme } from "@x402/evm";
import { getAddress } from "viem";
import { NETWORK, approvePermit, clientPayer, transfers } from "../chain/chain.mjs";
import { assertBalance, costNano, env, run, upstreamHits } from "./harness.mjs";
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
} from "./x402.mjs";

const account = clientPayer(1);
const pay = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [{ network: NETWORK, client: new ExactEvmScheme(account) }],
});
const byPermit = (offer) => offer.scheme === "exact" && offer.extra.assetTransferMethod === "permit2";

await run({
  /** A wallet has to approve Permit2 once, and is told so before anything is asked of the chain. */
  async "permit-without-allowance-is-412"() {
    await approvePermit(env("RPC_URL"), account, 0n);
    const [hits, asked] = [await upstreamHits(), (await facilitatorCalls()).length];
    const response = await pay(url, call("Without allowance."));
    assert.equal(response.status, 412, await response.clone().text());
    const challenge = JSON.parse(Buffer.from(response.headers.get("payment-required"), "base64").toString());
    assert.equal(challenge.error, "permit2_allowance_required");
    assert.ok(challenge.accepts.some(byPermit));
    assert.equal(response.headers.get("payment-response"), null);
    const calls = await facilitatorCalls(asked);
    assert.deepEqual(calls.map((c) => [c.op, c.reason]), [["verify", "permit2_allowance_required"]]);
    assert.equal(await upstreamHits(), hits);
    assert.equal((await transfers(chain, account.address, payTo)).length, 0);
  },

  async "permit-pays-and-streams"() {
    await approvePermit(env("RPC_URL"), account);
    const init = call("A permitted story.", streamed);
    const { offer } = await unpaid(init, byPermit);
    const hits = await upstreamHits();
    const response = await pay(url, init);
    assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
    const settled = decodePaymentResponseHeader(response.headers.get("payment-response"));
    const answer = await readStream(response.body);
    assert.equal(await upstreamHits(), hits + 1);
    await assertStreamed(answer, init);

    assert.deepEqual([settled.success, settled.network, getAddress(settled.payer)], [true, NETWORK, account.address]);
    await assertMoved(settled.transaction, account.address, BigInt(offer.amount));
    assert.equal((await transfers(chain, account.address, payTo)).length, 1);
    const cost = costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
    await assertBalance(response.headers.get("farthing-key"), BigInt(offer.amount) * NANO_PER_ATOMIC - cost);
  },
});
