// The play token itself: a test through it proves something only if it refuses what USDC refuses.
import assert from "node:assert/strict";
import { parseAbi, parseSignature, serializeSignature } from "viem";
import {
  NETWORK,
  TOKEN,
  TOKEN_ABI,
  chainClient,
  facilitatorAccount,
  payer,
  secondPayer,
  send as sendCall,
} from "../chain/chain.mjs";
import { env, run } from "./harness.mjs";

const abi = parseAbi([
  "function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s)",
  "function authorizationState(address, bytes32) view returns (bool)",
]);
const bytesAbi = parseAbi([
  "function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes signature)",
  "function receiveWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes signature)",
]);
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const types = {
  TransferWithAuthorization: [
    { name: "from", type: "address" },
    { name: "to", type: "address" },
    { name: "value", type: "uint256" },
    { name: "validAfter", type: "uint256" },
    { name: "validBefore", type: "uint256" },
    { name: "nonce", type: "bytes32" },
  ],
};

const receiveTypes = { ReceiveWithAuthorization: types.TransferWithAuthorization };

const client = chainClient(env("RPC_URL"), facilitatorAccount());
const to = "0x000000000000000000000000000000000000bEEF";
const nonce = (n) => `0x${n.toString(16).padStart(64, "0")}`;

async function signed(number, change = {}, as = types) {
  const now = BigInt(Math.floor(Date.now() / 1000));
  const message = {
    from: payer().address,
    to,
    value: 7n,
    validAfter: 0n,
    validBefore: now + 600n,
    nonce: nonce(number),
    ...change,
  };
  const domain = { name: "USDC", version: "2", chainId: 84532, verifyingContract: TOKEN };
  const signature = await payer().signTypedData({ domain, types: as, primaryType: Object.keys(as)[0], message });
  const { r, s, v } = parseSignature(signature);
  return { fields: Object.values(message), signature, r, s, v: Number(v) };
}

const send = (abi, args) =>
  sendCall(client, { address: TOKEN, abi, functionName: "transferWithAuthorization", args });

const balance = () => client.readContract({ address: TOKEN, abi: TOKEN_ABI, functionName: "balanceOf", args: [to] });

await run({
  async "token-moves-once"() {
    const before = await balance();
    const a = await signed(1);
    await send(abi, [...a.fields, a.v, a.r, a.s]);
    const b = await signed(2);
    await send(bytesAbi, [...b.fields, b.signature]);
    assert.equal(await balance(), before + 14n);
    const used = { address: TOKEN, abi, functionName: "authorizationState", args: [payer().address, nonce(1)] };
    assert.equal(await client.readContract(used), true);
    await assert.rejects(send(abi, [...a.fields, a.v, a.r, a.s]), /authorization is used/);
    await assert.rejects(send(bytesAbi, [...b.fields, b.signature]), /authorization is used/);
    assert.equal(await balance(), before + 14n);
  },

  async "token-refuses"() {
    const a = await signed(3);
    const twin = `0x${(ORDER - BigInt(a.s)).toString(16).padStart(64, "0")}`;
    const rows = [
      ["high s", [...a.fields, a.v === 27 ? 28 : 27, a.r, twin], /invalid signature s/],
      ["v 0 or 1", [...a.fields, a.v - 27, a.r, a.s], /invalid signature v/],
      ["other value", [...a.fields.with(2, 8n), a.v, a.r, a.s], /invalid signature/],
    ];
    for (const [name, args, reason] of rows) await assert.rejects(send(abi, args), reason, name);
    const windows = [
      [{ validBefore: 1n }, /authorization is expired/],
      [{ validAfter: 2n ** 40n, validBefore: 2n ** 41n }, /authorization is not yet valid/],
      [{ value: 2n ** 200n }, /exceeds balance/],
    ];
    for (const [change, reason] of windows) {
      const b = await signed(4, change);
      await assert.rejects(send(abi, [...b.fields, b.v, b.r, b.s]), reason);
    }
    const high = serializeSignature({ r: a.r, s: twin, yParity: a.v === 27 ? 1 : 0 });
    await assert.rejects(send(bytesAbi, [...a.fields, high]), /invalid signature s/);
    await assert.rejects(send(bytesAbi, [...a.fields, a.signature.slice(0, -2)]), /invalid signature length/);
  },

  async "token-received-by-its-payee-only"() {
    const payee = chainClient(env("RPC_URL"), secondPayer());
    const a = await signed(5, { to: secondPayer().address }, receiveTypes);
    const receive = { address: TOKEN, abi: bytesAbi, functionName: "receiveWithAuthorization" };
    await assert.rejects(sendCall(client, { ...receive, args: [...a.fields, a.signature] }), /caller must be the payee/);
    // One form is not the other: the types differ.
    await assert.rejects(send(bytesAbi, [...a.fields, a.signature]), /invalid signature/);
    await sendCall(payee, { ...receive, args: [...a.fields, a.signature] });
    await assert.rejects(sendCall(payee, { ...receive, args: [...a.fields, a.signature] }), /authorization is used/);
  },

  async "facilitator-offers"() {
    const supported = await (await fetch(`${env("FACILITATOR_URL")}/supported`)).json();
    const here = supported.kinds.filter((k) => [NETWORK, "base-sepolia"].includes(k.network));
    const kinds = here.map((k) => `${k.x402Version} ${k.scheme} ${k.network}`);
    const schemes = ["exact", "upto", "batch-settlement"].map((scheme) => `2 ${scheme} ${NETWORK}`);
    assert.deepEqual(kinds.sort(), [...schemes, "1 exact base-sepolia"].sort());
    const upto = supported.kinds.find((k) => k.scheme === "upto");
    assert.equal(upto.extra.facilitatorAddress, facilitatorAccount().address);
  },
});
