// Permit2 and the stand-ins for its two spenders: a payment through them proves something only if they refuse what the real
// ones refuse.
import assert from "node:assert/strict";
import { parseAbi } from "viem";
import {
  CHAIN_ID,
  EXACT_PROXY,
  PERMIT,
  TOKEN,
  UPTO_PROXY,
  approvePermit,
  chainClient,
  clientPayer,
  facilitatorAccount,
  secondPayer,
  send,
  tokenBalance,
} from "../chain/chain.mjs";
import { env, run } from "./harness.mjs";

const PERMISSION = "((address token, uint256 amount) permitted, uint256 nonce, uint256 deadline)";
const exactAbi = parseAbi([
  "error PaymentTooEarly()",
  "error InvalidDestination()",
  `function settle(${PERMISSION} permit, address owner, (address to, uint256 validAfter) witness, bytes signature)`,
]);
const uptoAbi = parseAbi([
  "error AmountExceedsPermitted()",
  "error UnauthorizedFacilitator()",
  "error InvalidAmount()",
  `function settle(${PERMISSION} permit, uint256 amount, address owner, (address to, address facilitator, uint256 validAfter) witness, bytes signature)`,
]);
const permitErrors = parseAbi([
  "error InvalidNonce()",
  "error InvalidSigner()",
  "error InvalidSignatureLength()",
  "error SignatureExpired(uint256)",
]);
const permitAbi = parseAbi([
  "function nonceBitmap(address, uint256) view returns (uint256)",
  "function invalidateUnorderedNonces(uint256 word, uint256 mask)",
]);

const field = (type, name) => ({ name, type });
const TYPES = {
  PermitWitnessTransferFrom: [
    field("TokenPermissions", "permitted"),
    field("address", "spender"),
    field("uint256", "nonce"),
    field("uint256", "deadline"),
    field("Witness", "witness"),
  ],
  TokenPermissions: [field("address", "token"), field("uint256", "amount")],
};
const exactTypes = { ...TYPES, Witness: [field("address", "to"), field("uint256", "validAfter")] };
const uptoTypes = {
  ...TYPES,
  Witness: [field("address", "to"), field("address", "facilitator"), field("uint256", "validAfter")],
};

const owner = clientPayer(14);
const facilitator = chainClient(env("RPC_URL"), facilitatorAccount());
const stranger = chainClient(env("RPC_URL"), secondPayer());
const to = "0x000000000000000000000000000000000000bee1";
const now = () => BigInt(Math.floor(Date.now() / 1000));

async function signed(types, spender, nonce, { witness = {}, permitted = {}, ...change } = {}) {
  const message = {
    permitted: { token: TOKEN, amount: 9n, ...permitted },
    spender,
    nonce,
    deadline: now() + 600n,
    witness: { to, facilitator: facilitatorAccount().address, validAfter: 0n, ...witness },
    ...change,
  };
  const domain = { name: "Permit2", chainId: CHAIN_ID, verifyingContract: PERMIT };
  const signature = await owner.signTypedData({ domain, types, primaryType: "PermitWitnessTransferFrom", message });
  return { ...message, signature };
}

const exactCall = (p, change = {}) => {
  const { permitted, nonce, deadline, witness, signature } = { ...p, ...change };
  const args = [{ permitted, nonce, deadline }, change.owner ?? owner.address, witness, signature];
  return { address: EXACT_PROXY, abi: [...exactAbi, ...permitErrors], functionName: "settle", args };
};
const uptoCall = (p, amount, change = {}) => {
  const { permitted, nonce, deadline, witness, signature } = { ...p, ...change };
  const args = [{ permitted, nonce, deadline }, amount, owner.address, witness, signature];
  return { address: UPTO_PROXY, abi: [...uptoAbi, ...permitErrors], functionName: "settle", args };
};

/** What `to` gets while `work` runs. */
async function received(work) {
  const before = await tokenBalance(facilitator, to);
  await work();
  return (await tokenBalance(facilitator, to)) - before;
}

await run({
  async "permit-moves-once"() {
    const p = await signed(exactTypes, EXACT_PROXY, 0x1_07n);
    await approvePermit(env("RPC_URL"), owner, 0n);
    await assert.rejects(send(facilitator, exactCall(p)), /TRANSFER_FROM_FAILED/);
    await approvePermit(env("RPC_URL"), owner);
    assert.equal(await received(() => send(facilitator, exactCall(p))), 9n);
    const word = { address: PERMIT, abi: permitAbi, functionName: "nonceBitmap", args: [owner.address, 1n] };
    assert.equal(await facilitator.readContract(word), 1n << 7n);
    await assert.rejects(send(facilitator, exactCall(p)), /InvalidNonce/);
    // The nonce is of the owner, not of the payment: another one with it is refused too.
    const other = await signed(exactTypes, EXACT_PROXY, 0x1_07n, { permitted: { amount: 8n } });
    await assert.rejects(send(facilitator, exactCall(other)), /InvalidNonce/);
    // Neighbours are free, and who sends it does not matter.
    const next = await signed(exactTypes, EXACT_PROXY, 0x1_08n);
    assert.equal(await received(() => send(stranger, exactCall(next))), 9n);
  },

  async "permit-refuses"() {
    const p = await signed(exactTypes, EXACT_PROXY, 1n);
    const rows = [
      ["another amount", exactCall(p, { permitted: { token: TOKEN, amount: 10n } }), /InvalidSigner/],
      ["another payee", exactCall(p, { witness: { to: PERMIT, validAfter: 0n } }), /InvalidSigner/],
      ["another owner", exactCall(p, { owner: secondPayer().address }), /InvalidSigner/],
      ["another nonce", exactCall(p, { nonce: 2n }), /InvalidSigner/],
      ["later deadline", exactCall(p, { deadline: p.deadline + 1n }), /InvalidSigner/],
      ["signed for another spender", exactCall(await signed(exactTypes, UPTO_PROXY, 1n)), /InvalidSigner/],
      ["signed with another witness type", exactCall(await signed(uptoTypes, EXACT_PROXY, 1n)), /InvalidSigner/],
      ["past its deadline", exactCall(await signed(exactTypes, EXACT_PROXY, 1n, { deadline: 1n })), /SignatureExpired/],
      [
        "too early",
        exactCall(await signed(exactTypes, EXACT_PROXY, 1n, { witness: { validAfter: 2n ** 40n } })),
        /PaymentTooEarly/,
      ],
      ["cut signature", exactCall(p, { signature: p.signature.slice(0, -4) }), /InvalidSignatureLength/],
    ];
    for (const [name, call, reason] of rows) await assert.rejects(send(facilitator, call), reason, name);
    // Taken back by its owner.
    const taken = { address: PERMIT, abi: permitAbi, functionName: "invalidateUnorderedNonces", args: [0n, 2n] };
    await send(chainClient(env("RPC_URL"), owner), taken);
    await assert.rejects(send(facilitator, exactCall(p)), /InvalidNonce/);
  },

  async "upto-moves-what-was-used"() {
    await approvePermit(env("RPC_URL"), owner);
    const p = await signed(uptoTypes, UPTO_PROXY, 0x2_01n);
    assert.equal(await received(() => send(facilitator, uptoCall(p, 4n))), 4n);
    await assert.rejects(send(facilitator, uptoCall(p, 4n)), /InvalidNonce/);
    const whole = await signed(uptoTypes, UPTO_PROXY, 0x2_02n);
    assert.equal(await received(() => send(facilitator, uptoCall(whole, 9n))), 9n);
  },

  async "upto-refuses"() {
    const p = await signed(uptoTypes, UPTO_PROXY, 0x3_01n);
    const mine = { witness: { ...p.witness, facilitator: secondPayer().address } };
    await assert.rejects(send(facilitator, uptoCall(p, 10n)), /AmountExceedsPermitted/);
    await assert.rejects(send(facilitator, uptoCall(p, 0n)), /InvalidAmount/);
    await assert.rejects(send(stranger, uptoCall(p, 4n)), /UnauthorizedFacilitator/);
    await assert.rejects(send(stranger, uptoCall(p, 4n, mine)), /InvalidSigner/);
    await assert.rejects(
      send(facilitator, uptoCall(p, 4n, { permitted: { token: TOKEN, amount: 4n } })),
      /InvalidSigner/,
    );
    const other = await signed(uptoTypes, EXACT_PROXY, 0x3_01n);
    await assert.rejects(send(facilitator, uptoCall(other, 4n)), /InvalidSigner/);
  },
});
