// The unmodified @x402/fetch opens a payment channel and pays call after call with a signature only;
// the gateway claims what was used, and gives the rest back when it is asked to.
import assert from "node:assert/strict";
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { parseAbi } from "viem";
import {
  CHANNELS,
  ERC3009_COLLECTOR,
  NETWORK,
  authorizer,
  clientPayer,
  tokenBalance,
  transfers,
} from "../chain/chain.mjs";
import { run, upstreamHits } from "./harness.mjs";
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

const abi = parseAbi([
  "function channels(bytes32) view returns (uint128 balance, uint128 totalClaimed)",
  "function receivers(address, address) view returns (uint128 totalClaimed, uint128 totalSettled)",
]);
const account = clientPayer(3);
/** A wallet that can also look at the chain: so a client without memory finds its channel again. */
const wallet = {
  address: account.address,
  signTypedData: account.signTypedData,
  readContract: (question) => chain.readContract(question),
};
const inChannels = (offer) => offer.scheme === "batch-settlement";
const payer = (scheme) => wrapFetchWithPaymentFromConfig(fetch, { schemes: [{ network: NETWORK, client: scheme }] });
const onChain = async (id) => {
  const [balance, totalClaimed] = await chain.readContract({
    address: CHANNELS,
    abi,
    functionName: "channels",
    args: [id],
  });
  return { balance, totalClaimed };
};
const asked = async (from, ...types) => (await facilitatorCalls(from)).filter((c) => types.includes(c.type));

const scheme = new BatchSettlementEvmScheme(wallet);
const pay = payer(scheme);
/** The channel as the scenarios know it: what was charged on it, what the calls cost, and the dearest offer. */
const channel = { id: undefined, deposit: 0n, charged: 0n, costNano: 0n, dearest: 0n };

/** Pays for one call on the channel and checks what the head says of it. */
async function paid(init, read, by = pay) {
  const { offer } = await unpaid(init, inChannels);
  const hits = await upstreamHits();
  const response = await by(url, init);
  assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
  const said = decodePaymentResponseHeader(response.headers.get("payment-response"));
  const answer = await read(response);
  assert.equal(await upstreamHits(), hits + 1);

  const { chargedAmount, channelState } = said.extra;
  assert.equal(said.success, true);
  assert.ok(BigInt(chargedAmount) <= BigInt(offer.amount), `charged ${chargedAmount} of ${offer.amount}`);
  channel.id ??= channelState.channelId;
  channel.charged += BigInt(chargedAmount);
  channel.costNano += fineCostNano(answer.usage);
  assert.equal(channelState.channelId, channel.id);
  assert.equal(BigInt(channelState.chargedCumulativeAmount), channel.charged);
  // What was charged covers what was used, and runs ahead of it by one call at most.
  if (BigInt(offer.amount) > channel.dearest) channel.dearest = BigInt(offer.amount);
  const carry = channel.charged * NANO_PER_ATOMIC - channel.costNano;
  assert.ok(carry >= 0n && carry <= channel.dearest * NANO_PER_ATOMIC, `a carry of ${carry} nano-USD`);
  return { answer, said, offer };
}

const whole = (response) => response.json();
const stream = (response) => readStream(response.body);

await run({
  async "channel-opens-and-streams"() {
    const init = fine(call("A story on credit.", streamed));
    const [had, before] = [await tokenBalance(chain, account.address), (await facilitatorCalls()).length];
    const { answer, said, offer } = await paid(init, stream);
    await assertStreamed(answer, init);
    const { receiverAuthorizer, withdrawDelay, minDeposit } = offer.extra;
    assert.deepEqual([receiverAuthorizer, withdrawDelay], [authorizer().address, 900]);

    channel.deposit = BigInt(minDeposit);
    assert.equal(said.amount, minDeposit);
    assert.equal(await tokenBalance(chain, account.address), had - channel.deposit);
    const { logs } = await chain.getTransactionReceipt({ hash: said.transaction });
    assert.ok(logs.length > 0);
    const brought = await transfers(chain, ERC3009_COLLECTOR, CHANNELS);
    assert.equal(brought.at(-1).transactionHash, said.transaction);
    assert.deepEqual(await onChain(channel.id), { balance: channel.deposit, totalClaimed: 0n });
    assert.deepEqual((await asked(before, "deposit")).map((c) => c.op), ["verify", "settle"]);
  },

  async "vouchers-ask-nobody"() {
    const before = (await facilitatorCalls()).length;
    for (const n of [1, 2, 3]) {
      const { said } = await paid(fine(call(`Call ${n} on the channel.`)), whole);
      assert.deepEqual([said.transaction, said.amount], ["", ""]);
      const init = fine(call(`Call ${n} on the channel, word by word.`, streamed));
      const { answer } = await paid(init, stream);
      await assertStreamed(answer, init);
    }
    assert.deepEqual(await facilitatorCalls(before), []);
    assert.deepEqual(await onChain(channel.id), { balance: channel.deposit, totalClaimed: 0n });
  },

  /** A client without memory reads the chain, where nothing is claimed yet, and signs too little. */
  async "cold-client-is-put-right"() {
    const cold = payer(new BatchSettlementEvmScheme(wallet));
    await paid(fine(call("Who was I?")), whole, cold);
    await paid(fine(call("I remember.")), whole, cold);
    // The first client is now behind as well, and is put right by the same means.
    await paid(fine(call("So do I.")), whole);
  },

  async "channel-is-claimed-and-settled"() {
    const [got, before] = [await tokenBalance(chain, payTo), (await facilitatorCalls()).length];
    const text = "A long question. ".repeat(400);
    while ((await asked(before, "claim")).length === 0) {
      await paid(fine(call(text)), whole);
      assert.ok(channel.charged < channel.deposit, "nothing was claimed before the deposit was used up");
      await new Promise((resolve) => setTimeout(resolve, 1_200));
    }
    const { totalClaimed } = await until(() => onChain(channel.id), (c) => c.totalClaimed > 0n, "nothing was claimed");
    await until(() => tokenBalance(chain, payTo), (has) => has === got + totalClaimed, "claimed, and not settled");
    // Only what was used is claimed: never what the payer has still coming.
    const used = atomicUp(channel.costNano);
    assert.ok(totalClaimed <= used, `claimed ${totalClaimed} of ${used} used`);
    assert.deepEqual((await asked(before, "claim", "settle")).map((c) => [c.op, c.type, c.reason]), [
      ["settle", "claim", undefined],
      ["settle", "settle", undefined],
    ]);
    await paid(fine(call("After the claim.")), whole);
  },

  async "refund-gives-the-rest-back"() {
    const [had, hits] = [await tokenBalance(chain, account.address), await upstreamHits()];
    const [got, before] = [await tokenBalance(chain, payTo), await onChain(channel.id)];
    const said = await scheme.refund(url);
    assert.equal(said.success, true, said.errorReason);
    assert.equal(await upstreamHits(), hits, "a refund reached the upstream");
    const { balance, totalClaimed } = await onChain(channel.id);
    assert.equal(balance, totalClaimed, "something is left in the channel");
    // What was used, in whole atomic units, was claimed with it: no more, and no less.
    assert.equal(totalClaimed, atomicUp(channel.costNano));
    const back = channel.deposit - totalClaimed;
    assert.equal(said.amount, String(back));
    assert.equal(await tokenBalance(chain, account.address), had + back);
    const claimed = totalClaimed - before.totalClaimed;
    await until(() => tokenBalance(chain, payTo), (has) => has === got + claimed, "claimed, and not settled");
    await assert.rejects(scheme.refund(url), /no remaining balance/);
  },
});
