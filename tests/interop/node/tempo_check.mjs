// The stand-in for Tempo's channel reserve: what a seller or a payer gets away with here it would get away with nowhere
// else. And both sides of mppx agree with it and with each other, so a gateway that fails with it fails mppx.
import assert from "node:assert/strict";
import http from "node:http";
import { sessionManager } from "mppx/client";
import { Mppx, Request as MppxRequest, tempo } from "mppx/server";
import { encodeFunctionData, parseEventLogs, zeroAddress } from "viem";
import { Channel } from "viem/tempo";
import {
  CHAIN_ID,
  RESERVE,
  RESERVE_ABI,
  TOKEN,
  channelState,
  closed,
  payee,
  payer,
  tempoClient,
  tokenBalance,
} from "../tempo/tempo.mjs";
import { env, run } from "./harness.mjs";

const RPC_URL = env("TEMPO_RPC_URL");
const chain = tempoClient(RPC_URL);

/** Sends one call as wallets of this chain do, and waits until it stands there. */
async function send(account, functionName, ...args) {
  const client = tempoClient(RPC_URL, account);
  const call = { to: RESERVE, data: encodeFunctionData({ abi: RESERVE_ABI, functionName, args }) };
  const hash = await client.sendTransaction({ calls: [call], nonceKey: "expiring", feeToken: TOKEN });
  const receipt = await client.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, "success", `${functionName}: ${hash}`);
  return receipt;
}

/** Fails unless the reserve refuses this call, for this reason. */
async function refused(name, reason, account, functionName, ...args) {
  const call = { address: RESERVE, abi: RESERVE_ABI, functionName, args, account };
  await assert.rejects(chain.simulateContract(call), reason, name);
}

let salts = 0;
/** Opens a channel of its own for each scenario. */
async function opened(account, deposit) {
  salts += 1;
  const salt = `0x${salts.toString(16).padStart(64, "0")}`;
  const args = [payee().address, zeroAddress, TOKEN, deposit, salt, zeroAddress];
  const receipt = await send(account, "open", ...args);
  const [{ args: told }] = parseEventLogs({ abi: RESERVE_ABI, eventName: "ChannelOpened", logs: receipt.logs });
  const descriptor = {
    payer: account.address,
    payee: payee().address,
    operator: zeroAddress,
    token: TOKEN,
    salt,
    authorizedSigner: zeroAddress,
    expiringNonceHash: told.expiringNonceHash,
  };
  assert.notEqual(BigInt(told.expiringNonceHash), 0n, "nobody told the reserve of its transaction");
  assert.equal(told.channelId, Channel.computeId(descriptor, { chainId: CHAIN_ID }));
  return { id: told.channelId, descriptor };
}

const voucher = (account, channelId, cumulativeAmount) =>
  account.sign({ hash: Channel.getVoucherSignPayload({ chainId: CHAIN_ID, channelId, cumulativeAmount }) });

/** A server of mppx that asks for 25 units, and for 25 more with each of eight words. */
async function served() {
  const method = tempo.session({
    account: payee(),
    amount: "0.000025",
    chainId: CHAIN_ID,
    currency: TOKEN,
    getClient: () => tempoClient(RPC_URL, payee()),
    recipient: payee().address,
    resolveChannelId: ({ request }) => request.headers.get("payment-session"),
    sse: true,
    suggestedDeposit: "0.0001",
    unitType: "word",
  });
  const server = Mppx.create({ methods: [method], realm: "127.0.0.1", secretKey: "of a test, and of nothing else ...." });
  const answer = async (request) => {
    const payment = await server.session({})(request);
    if (payment.status === 402) return payment.challenge;
    if (!request.headers.has("content-type")) return payment.withReceipt();
    return payment.withReceipt(async function* (stream) {
      for (let word = 0; word < 8; word += 1) {
        await stream.charge();
        yield `word ${word}`;
      }
    });
  };
  const listener = http.createServer(MppxRequest.toNodeListener(answer));
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${listener.address().port}/`;
}

await run({
  async "reserve-serves-both-sides-of-mppx"() {
    const url = await served();
    const manager = sessionManager({ account: payer(0), getClient: () => chain, maxDeposit: "1" });
    const init = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    for (let round = 1; round <= 2; round += 1) {
      const words = [];
      const receipts = [];
      for await (const word of await manager.sse(url, { ...init, onReceipt: (receipt) => receipts.push(receipt) })) words.push(word);
      assert.equal(words.length, 8);
      assert.equal(receipts.at(-1).spent, `${round * 200}`);
    }
    const id = manager.channelId;
    const [before, { deposit }] = [await tokenBalance(chain, payer(0).address), await channelState(chain, id)];
    const receipt = await manager.close();
    assert.deepEqual([receipt.spent, receipt.acceptedCumulative], ["400", "400"]);
    const end = await closed(chain, id);
    assert.deepEqual([end.settledToPayee, end.refundedToPayer], [400n, deposit - 400n]);
    assert.equal(await tokenBalance(chain, payer(0).address), before + deposit - 400n);
    assert.deepEqual(await channelState(chain, id), { settled: 0n, deposit: 0n, closeRequestedAt: 0 });
  },

  async "reserve-settles-and-closes"() {
    const { id, descriptor } = await opened(payer(1), 100n);
    await send(payer(1), "topUp", descriptor, 20n);
    const [had, got] = [await tokenBalance(chain, payer(1).address), await tokenBalance(chain, payee().address)];
    await send(payee(), "settle", descriptor, 30n, await voucher(payer(1), id, 30n));
    assert.deepEqual(await channelState(chain, id), { settled: 30n, deposit: 120n, closeRequestedAt: 0 });
    await send(payee(), "close", descriptor, 90n, 50n, await voucher(payer(1), id, 90n));
    const end = await closed(chain, id);
    assert.deepEqual([end.settledToPayee, end.refundedToPayer], [50n, 70n]);
    assert.equal(await tokenBalance(chain, payer(1).address), had + 70n);
    // The payee paid the fees of its two transactions itself.
    assert.ok((await tokenBalance(chain, payee().address)) < got + 50n);
  },

  async "reserve-refuses"() {
    const { id, descriptor } = await opened(payer(2), 100n);
    const other = await opened(payer(2), 100n);
    const good = await voucher(payer(2), id, 60n);
    const seller = payee();
    const rows = [
      ["another's voucher", /voucher signature/, seller, "close", descriptor, 60n, 50n, await voucher(payer(1), id, 60n)],
      ["another channel's", /voucher signature/, seller, "close", descriptor, 60n, 50n, await voucher(payer(2), other.id, 60n)],
      ["a raised voucher", /voucher signature/, seller, "close", descriptor, 61n, 50n, good],
      ["more than the voucher", /more than the voucher/, seller, "close", descriptor, 60n, 61n, good],
      ["more than the deposit", /more than the deposit/, seller, "close", descriptor, 200n, 101n, await voucher(payer(2), id, 200n)],
      ["by a stranger", /not the payee/, payer(3), "close", descriptor, 60n, 50n, good],
      ["by the payer", /not the payee/, payer(2), "settle", descriptor, 60n, good],
      ["settles too much", /exceeds deposit/, seller, "settle", descriptor, 101n, await voucher(payer(2), id, 101n)],
      ["a channel that never was", /no such open channel/, seller, "settle", { ...descriptor, salt: `0x${"ff".repeat(32)}` }, 60n, good],
      ["topped up by a stranger", /not the payer/, payer(3), "topUp", descriptor, 1n],
      ["withdrawn unasked", /no close is pending/, payer(2), "withdraw", descriptor],
    ];
    for (const row of rows) await refused(...row);
    await send(payee(), "settle", descriptor, 60n, good);
    await refused("settled twice", /nothing new/, seller, "settle", descriptor, 60n, good);
    await refused("less than is settled", /less than is settled/, seller, "close", descriptor, 60n, 59n, good);
    await send(payer(2), "requestClose", descriptor);
    await refused("withdrawn at once", /not due/, payer(2), "withdraw", descriptor);
    await send(payee(), "close", descriptor, 60n, 60n, good);
    await refused("closed twice", /no such open channel/, seller, "close", descriptor, 60n, 60n, good);
  },
});
