// The stand-in for the contract of payment channels: what a seller or a payer gets away with here it
// would get away with nowhere else.
import assert from "node:assert/strict";
import { encodeAbiParameters, hashTypedData, keccak256, parseAbi, parseAbiParameters } from "viem";
import {
  CHAIN_ID,
  CHANNELS,
  ERC3009_COLLECTOR,
  PERMIT,
  PERMIT_COLLECTOR,
  TOKEN,
  approvePermit,
  authorizer,
  chainClient,
  clientPayer,
  facilitatorAccount,
  secondPayer,
  send,
  tokenBalance,
} from "../chain/chain.mjs";
import { env, run } from "./harness.mjs";

const CONFIG =
  "(address payer, address payerAuthorizer, address receiver, address receiverAuthorizer, address token, uint40 withdrawDelay, bytes32 salt)";
const CLAIM = `((${CONFIG} channel, uint128 maxClaimableAmount) voucher, bytes signature, uint128 totalClaimed)`;
const abi = parseAbi([
  `function getChannelId(${CONFIG} config) view returns (bytes32)`,
  "function channels(bytes32) view returns (uint128 balance, uint128 totalClaimed)",
  "function pendingWithdrawals(bytes32) view returns (uint128 amount, uint40 initiatedAt)",
  "function refundNonce(bytes32) view returns (uint256)",
  "function receivers(address, address) view returns (uint128 totalClaimed, uint128 totalSettled)",
  `function deposit(${CONFIG} config, uint128 amount, address collector, bytes collectorData)`,
  `function claim(${CLAIM}[] voucherClaims)`,
  `function claimWithSignature(${CLAIM}[] voucherClaims, bytes authorizerSignature)`,
  "function settle(address receiver, address token)",
  `function refund(${CONFIG} config, uint128 amount)`,
  `function refundWithSignature(${CONFIG} config, uint128 amount, uint256 nonce, bytes receiverAuthorizerSignature)`,
  `function initiateWithdraw(${CONFIG} config, uint128 amount)`,
  `function finalizeWithdraw(${CONFIG} config)`,
]);
const collectorAbi = parseAbi([
  "function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes data)",
]);

const field = (type, name) => ({ name, type });
const types = {
  ChannelConfig: [
    field("address", "payer"),
    field("address", "payerAuthorizer"),
    field("address", "receiver"),
    field("address", "receiverAuthorizer"),
    field("address", "token"),
    field("uint40", "withdrawDelay"),
    field("bytes32", "salt"),
  ],
  Voucher: [field("bytes32", "channelId"), field("uint128", "maxClaimableAmount")],
  Refund: [field("bytes32", "channelId"), field("uint256", "nonce"), field("uint128", "amount")],
  ClaimBatch: [field("ClaimEntry[]", "claims")],
  ClaimEntry: [
    field("bytes32", "channelId"),
    field("uint128", "maxClaimableAmount"),
    field("uint128", "totalClaimed"),
  ],
};
const domain = { name: "x402 Batch Settlement", version: "1", chainId: CHAIN_ID, verifyingContract: CHANNELS };
const typed = (primaryType, message) => ({ domain, types, primaryType, message });

const DELAY = 900;
const client = chainClient(env("RPC_URL"), facilitatorAccount());
const stranger = chainClient(env("RPC_URL"), secondPayer());
const payer = clientPayer(13);
const receiver = "0x000000000000000000000000000000000000bee2";
const now = () => BigInt(Math.floor(Date.now() / 1000));

/** Every scenario has channels of its own. */
const config = (salt, change = {}) => ({
  payer: payer.address,
  payerAuthorizer: payer.address,
  receiver,
  receiverAuthorizer: authorizer().address,
  token: TOKEN,
  withdrawDelay: DELAY,
  salt: `0x${salt.toString(16).padStart(64, "0")}`,
  ...change,
});
const idOf = (channel) => hashTypedData(typed("ChannelConfig", channel));
const call = (functionName, ...args) => ({ address: CHANNELS, abi, functionName, args });
const read = (functionName, ...args) => client.readContract(call(functionName, ...args));

let salts = 0n;
/** A payer's authorisation by EIP-3009 of a deposit into this channel, as the collector reads it. */
async function authorised(channel, amount) {
  const [salt, validBefore] = [++salts, now() + 600n];
  const nonce = keccak256(encodeAbiParameters(parseAbiParameters("bytes32, uint256"), [idOf(channel), salt]));
  const signature = await payer.signTypedData({
    domain: { name: "USDC", version: "2", chainId: CHAIN_ID, verifyingContract: TOKEN },
    types: {
      ReceiveWithAuthorization: [
        field("address", "from"),
        field("address", "to"),
        field("uint256", "value"),
        field("uint256", "validAfter"),
        field("uint256", "validBefore"),
        field("bytes32", "nonce"),
      ],
    },
    primaryType: "ReceiveWithAuthorization",
    message: { from: payer.address, to: ERC3009_COLLECTOR, value: amount, validAfter: 0n, validBefore, nonce },
  });
  return encodeAbiParameters(parseAbiParameters("uint256, uint256, uint256, bytes"), [0n, validBefore, salt, signature]);
}

/** A payer's permit of a deposit into this channel, as the collector reads it. */
async function permitted(channel, amount) {
  const [nonce, deadline] = [++salts, now() + 600n];
  const signature = await payer.signTypedData({
    domain: { name: "Permit2", chainId: CHAIN_ID, verifyingContract: PERMIT },
    types: {
      PermitWitnessTransferFrom: [
        field("TokenPermissions", "permitted"),
        field("address", "spender"),
        field("uint256", "nonce"),
        field("uint256", "deadline"),
        field("DepositWitness", "witness"),
      ],
      TokenPermissions: [field("address", "token"), field("uint256", "amount")],
      DepositWitness: [field("bytes32", "channelId")],
    },
    primaryType: "PermitWitnessTransferFrom",
    message: {
      permitted: { token: TOKEN, amount },
      spender: PERMIT_COLLECTOR,
      nonce,
      deadline,
      witness: { channelId: idOf(channel) },
    },
  });
  return encodeAbiParameters(parseAbiParameters("uint256, uint256, bytes, bytes"), [nonce, deadline, signature, "0x"]);
}

const deposit = async (channel, amount) =>
  send(client, call("deposit", channel, amount, ERC3009_COLLECTOR, await authorised(channel, amount)));

async function claimRow(channel, max, total, { by = payer, id = idOf(channel) } = {}) {
  const signature = await by.signTypedData(typed("Voucher", { channelId: id, maxClaimableAmount: max }));
  return { voucher: { channel, maxClaimableAmount: max }, signature, totalClaimed: total };
}

async function claimCall(rows, by = authorizer()) {
  const claims = rows.map(({ voucher, totalClaimed }) => ({
    channelId: idOf(voucher.channel),
    maxClaimableAmount: voucher.maxClaimableAmount,
    totalClaimed,
  }));
  return call("claimWithSignature", rows, await by.signTypedData(typed("ClaimBatch", { claims })));
}

async function refundCall(channel, amount, nonce, by = authorizer()) {
  const signature = await by.signTypedData(typed("Refund", { channelId: idOf(channel), nonce, amount }));
  return call("refundWithSignature", channel, amount, nonce, signature);
}

await run({
  async "channel-deposit-claim-settle-refund"() {
    const [one, two] = [config(1), config(2)];
    assert.equal(await read("getChannelId", one), idOf(one));
    const paid = await tokenBalance(client, payer.address);
    await deposit(one, 100n);
    await deposit(one, 20n);
    await approvePermit(env("RPC_URL"), payer);
    await send(client, call("deposit", two, 50n, PERMIT_COLLECTOR, await permitted(two, 50n)));
    assert.equal(await tokenBalance(client, payer.address), paid - 170n);
    assert.deepEqual(await read("channels", idOf(one)), [120n, 0n]);

    await send(client, await claimCall([await claimRow(one, 40n, 33n), await claimRow(two, 50n, 50n)]));
    assert.deepEqual(await read("channels", idOf(one)), [120n, 33n]);
    assert.deepEqual(await read("receivers", receiver, TOKEN), [83n, 0n]);
    const got = await tokenBalance(client, receiver);
    await send(stranger, call("settle", receiver, TOKEN));
    assert.equal(await tokenBalance(client, receiver), got + 83n);
    await send(stranger, call("settle", receiver, TOKEN));
    assert.equal(await tokenBalance(client, receiver), got + 83n);

    // More than there is: what there is. The next one has another nonce.
    await send(client, await refundCall(one, 1000n, 0n));
    assert.deepEqual(await read("channels", idOf(one)), [33n, 33n]);
    assert.equal(await tokenBalance(client, payer.address), paid - 170n + 87n);
    assert.equal(await read("refundNonce", idOf(one)), 1n);
    // And the channel can be filled again.
    await deposit(one, 7n);
    assert.deepEqual(await read("channels", idOf(one)), [40n, 33n]);
  },

  async "channel-deposit-refuses"() {
    const channel = config(3);
    const data = await authorised(channel, 10n);
    const other = config(4);
    const rows = [
      ["another channel", call("deposit", other, 10n, ERC3009_COLLECTOR, data), /invalid signature/],
      ["another amount", call("deposit", channel, 11n, ERC3009_COLLECTOR, data), /invalid signature/],
      ["nothing", call("deposit", channel, 0n, ERC3009_COLLECTOR, data), /nothing to deposit/],
      ["short delay", call("deposit", config(3, { withdrawDelay: 899 }), 10n, ERC3009_COLLECTOR, data), /delay/],
      ["long delay", call("deposit", config(3, { withdrawDelay: 2_592_001 }), 10n, ERC3009_COLLECTOR, data), /delay/],
      [
        "a permit for another channel",
        call("deposit", other, 10n, PERMIT_COLLECTOR, await permitted(channel, 10n)),
        /reverted/,
      ],
      [
        "past the contract of the channels",
        {
          address: ERC3009_COLLECTOR,
          abi: collectorAbi,
          functionName: "collect",
          args: [payer.address, TOKEN, 10n, idOf(channel), data],
        },
        /not the contract of the channels/,
      ],
    ];
    for (const [name, wrong, reason] of rows) await assert.rejects(send(client, wrong), reason, name);
    await send(client, call("deposit", channel, 10n, ERC3009_COLLECTOR, data));
    await assert.rejects(send(client, call("deposit", channel, 10n, ERC3009_COLLECTOR, data)), /is used/);
  },

  async "channel-claim-refuses"() {
    const channel = config(5);
    await deposit(channel, 100n);
    const good = await claimRow(channel, 60n, 50n);
    const rows = [
      ["more than the voucher", await claimCall([await claimRow(channel, 60n, 61n)]), /exceeds voucher/],
      ["more than the balance", await claimCall([await claimRow(channel, 200n, 101n)]), /exceeds balance/],
      ["another's voucher", await claimCall([await claimRow(channel, 60n, 50n, { by: secondPayer() })]), /voucher signature/],
      ["another channel's voucher", await claimCall([await claimRow(channel, 60n, 50n, { id: idOf(config(6)) })]), /voucher signature/],
      ["a raised voucher", await claimCall([{ ...good, voucher: { ...good.voucher, maxClaimableAmount: 61n } }]), /voucher signature/],
      ["signed by the payer", await claimCall([good], payer), /authorizer signature/],
      ["not as signed", call("claimWithSignature", [{ ...good, totalClaimed: 51n }], (await claimCall([good])).args[1]), /authorizer signature/],
      ["one bad row of two", await claimCall([good, await claimRow(config(6), 1n, 1n)]), /exceeds balance/],
      ["by a stranger's hand", call("claim", [good]), /not the receiver/],
    ];
    for (const [name, wrong, reason] of rows) await assert.rejects(send(client, wrong), reason, name);
    assert.deepEqual(await read("channels", idOf(channel)), [100n, 0n]);
    await send(client, await claimCall([good]));
    await assert.rejects(send(client, await claimCall([good])), /nothing new/);
    await send(chainClient(env("RPC_URL"), authorizer()), call("claim", [await claimRow(channel, 60n, 51n)]));
    assert.deepEqual(await read("channels", idOf(channel)), [100n, 51n]);
  },

  async "channel-refund-refuses"() {
    const channel = config(7);
    await deposit(channel, 100n);
    const first = await refundCall(channel, 10n, 0n);
    await assert.rejects(send(client, await refundCall(channel, 10n, 1n)), /invalid refund nonce/);
    await assert.rejects(send(client, await refundCall(channel, 10n, 0n, payer)), /authorizer signature/);
    const [, , nonce, signature] = first.args;
    await assert.rejects(
      send(client, call("refundWithSignature", channel, 11n, nonce, signature)),
      /authorizer signature/,
    );
    await assert.rejects(send(client, call("refund", channel, 10n)), /not the receiver/);
    await send(client, first);
    await assert.rejects(send(client, first), /invalid refund nonce/);
    assert.deepEqual(await read("channels", idOf(channel)), [90n, 0n]);
    // A refund by hand uses up the nonce too.
    await send(chainClient(env("RPC_URL"), authorizer()), call("refund", channel, 10n));
    assert.equal(await read("refundNonce", idOf(channel)), 2n);
  },

  async "channel-withdraw-takes-its-time"() {
    const channel = config(8);
    const id = idOf(channel);
    const own = chainClient(env("RPC_URL"), payer);
    await deposit(channel, 100n);
    await send(client, await claimCall([await claimRow(channel, 40n, 40n)]));
    await assert.rejects(send(stranger, call("initiateWithdraw", channel, 10n)), /not the payer/);
    await assert.rejects(send(own, call("initiateWithdraw", channel, 61n)), /exceeds what is unclaimed/);
    await assert.rejects(send(own, call("finalizeWithdraw", channel)), /no withdrawal is pending/);
    await send(own, call("initiateWithdraw", channel, 60n));
    await assert.rejects(send(own, call("initiateWithdraw", channel, 1n)), /is pending/);
    await assert.rejects(send(own, call("finalizeWithdraw", channel)), /not due/);
    // A claim in the meantime still counts, and a refund makes the withdrawal smaller.
    await send(client, await claimCall([await claimRow(channel, 45n, 45n)]));
    await send(client, await refundCall(channel, 15n, 0n));
    const [amount, initiatedAt] = await read("pendingWithdrawals", id);
    assert.equal(amount, 45n);
    // The clock of the chain is everybody's: only this question is asked as if it were later.
    const asked = (time, account = payer) =>
      client.simulateContract({ ...call("finalizeWithdraw", channel), account, blockOverrides: { time } });
    const due = BigInt(initiatedAt) + BigInt(DELAY);
    await assert.rejects(asked(due - 1n), /not due/);
    await assert.rejects(asked(due, secondPayer()), /not the payer/);
    await asked(due);
    // The claim took of what was asked for: when the rest is given back, the withdrawal is of nothing.
    await send(client, await refundCall(channel, 100n, 1n));
    assert.deepEqual(await read("channels", id), [45n, 45n]);
    assert.deepEqual(await read("pendingWithdrawals", id), [5n, initiatedAt]);
    await asked(due);

    // Given back before it was due, all of it: no withdrawal is left.
    const other = config(9);
    await deposit(other, 10n);
    await send(own, call("initiateWithdraw", other, 10n));
    await send(client, await refundCall(other, 10n, 0n));
    assert.deepEqual(await read("pendingWithdrawals", idOf(other)), [0n, 0]);
  },
});
