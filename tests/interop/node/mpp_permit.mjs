// A wallet of viem pays for calls by Permit2 in the Payment scheme: it signs what EIP-712 makes of the draft's types, and the
// gateway sends it to the contract itself, which is the one that stands on public chains.
import assert from "node:assert/strict";
import { concat, encodeAbiParameters, getAddress, keccak256, stringToHex } from "viem";
import { CHAIN_ID, PERMIT, TOKEN, approvePermit, clientPayer, transfers } from "../chain/chain.mjs";
import { assertStreamed, call, readStream, streamed, url } from "./calls.mjs";
import { assertBalance, costNano, env, run, upstreamHits } from "./harness.mjs";
import { onceCall, onceUrl } from "./l402.mjs";
import { assertReceipt, challenged, of, problem } from "./mpp.mjs";
import { NANO_PER_ATOMIC, assertMoved, chain, facilitatorCalls, payTo } from "./x402.mjs";

const COPIES = 64;
const field = (type, name) => ({ name, type });
const types = {
  PermitWitnessTransferFrom: [
    field("TokenPermissions", "permitted"),
    field("address", "spender"),
    field("uint256", "nonce"),
    field("uint256", "deadline"),
    field("PaymentWitness", "witness"),
  ],
  TokenPermissions: [field("address", "token"), field("uint256", "amount")],
  PaymentWitness: [field("bytes32", "challengeHash"), field("string", "externalId")],
};
const domain = { name: "Permit2", chainId: CHAIN_ID, verifyingContract: PERMIT };

let nonces = 0x7000n;

/** The `evm` challenge of a 402, and its parameters as they came. */
async function asked(target, init) {
  const { challenges, lines } = await challenged(target, init, { "accept-payment": "evm/charge" });
  const { request } = of(challenges, "evm", "charge");
  const { chainId, credentialTypes, permit2Address, spender } = request.methodDetails;
  assert.deepEqual([chainId, credentialTypes], [CHAIN_ID, ["authorization", "permit2"]]);
  assert.equal(getAddress(permit2Address), PERMIT);
  const line = lines.find((text) => text.includes('method="evm"'));
  const echo = Object.fromEntries([...line.matchAll(/([a-z]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
  return { echo, request, spender };
}

const encoded = (account, message) =>
  account.signTypedData({ domain, types, primaryType: "PermitWitnessTransferFrom", message });

/** The hash of the draft's own text of the type, which has a space. */
function asPrinted(account, { permitted, spender, nonce, deadline, witness }) {
  const hash = (...members) =>
    keccak256(encodeAbiParameters(members.map(([type]) => ({ type })), members.map(([, value]) => value)));
  const ofText = (text) => ["bytes32", keccak256(stringToHex(text))];
  const witnessType = "PaymentWitness(bytes32 challengeHash, string externalId)";
  const permittedType = "TokenPermissions(address token,uint256 amount)";
  const type = `PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,PaymentWitness witness)${witnessType}${permittedType}`;
  const separator = hash(
    ofText("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
    ofText("Permit2"),
    ["uint256", BigInt(CHAIN_ID)],
    ["address", PERMIT],
  );
  const message = hash(
    ofText(type),
    ["bytes32", hash(ofText(permittedType), ["address", permitted.token], ["uint256", permitted.amount])],
    ["address", spender],
    ["uint256", nonce],
    ["uint256", deadline],
    ["bytes32", hash(ofText(witnessType), ["bytes32", witness.challengeHash], ofText(witness.externalId))],
  );
  return account.sign({ hash: keccak256(concat(["0x1901", separator, message])) });
}

/** Signs for a challenge, and writes the credential as the draft has it. */
async function credential({ echo, request, spender }, account, sign = encoded) {
  const message = {
    permitted: { token: TOKEN, amount: BigInt(request.amount) },
    spender,
    nonce: nonces++,
    deadline: BigInt(Math.floor(Date.parse(echo.expires) / 1000)),
    witness: { challengeHash: keccak256(stringToHex(echo.id + echo.realm)), externalId: "" },
  };
  const payload = {
    type: "permit2",
    permit: {
      permitted: [{ token: TOKEN, amount: request.amount }],
      nonce: String(message.nonce),
      deadline: String(message.deadline),
    },
    transferDetails: [{ to: request.recipient, requestedAmount: request.amount }],
    witness: { challengeHash: message.witness.challengeHash },
    signature: await sign(account, message),
  };
  const source = `did:pkh:eip155:${CHAIN_ID}:${account.address}`;
  return `Payment ${Buffer.from(JSON.stringify({ challenge: echo, source, payload })).toString("base64url")}`;
}

const paidWith = (shown, init) => ({ ...init, headers: { ...init.headers, authorization: shown } });
const moved = async (account) => (await transfers(chain, account.address, payTo)).length;

await run({
  async "permit-charge-pays-and-streams"() {
    const account = clientPayer(36);
    await approvePermit(env("RPC_URL"), account);
    const init = call("Permitted, word by word.", streamed);
    const wanted = await asked(url, init);
    const [hits, calls] = [await upstreamHits(), (await facilitatorCalls()).length];
    const response = await fetch(url, paidWith(await credential(wanted, account), init));
    assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
    const receipt = assertReceipt(response, "evm");
    await assertMoved(receipt.reference, account.address, BigInt(wanted.request.amount));
    const sent = await chain.getTransaction({ hash: receipt.reference });
    assert.deepEqual([getAddress(sent.from), getAddress(sent.to)], [getAddress(wanted.spender), PERMIT]);
    const answer = await readStream(response.body);
    assert.equal(await upstreamHits(), hits + 1);
    await assertStreamed(answer, init);
    const paid = BigInt(wanted.request.amount) * NANO_PER_ATOMIC;
    const cost = costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
    await assertBalance(response.headers.get("farthing-key"), paid - cost);
    assert.equal((await facilitatorCalls()).length, calls, "a facilitator was asked");
  },

  async "permit-charge-in-the-spelling-of-the-draft"() {
    const account = clientPayer(37);
    await approvePermit(env("RPC_URL"), account);
    const init = onceCall("As it is printed.");
    const wanted = await asked(onceUrl, init);
    const response = await fetch(onceUrl, paidWith(await credential(wanted, account, asPrinted), init));
    assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
    const { reference } = assertReceipt(response, "evm");
    await assertMoved(reference, account.address, BigInt(wanted.request.amount));
  },

  async "permit-charge-of-no-use-costs-nothing"() {
    const account = clientPayer(38);
    await approvePermit(env("RPC_URL"), account, 0n);
    const init = onceCall("Not allowed yet.");
    const wanted = await asked(onceUrl, init);
    const [hits, sent] = [await upstreamHits(), await chain.getTransactionCount({ address: wanted.spender })];
    const shown = await credential(wanted, account);
    const refused = async (value, reason) => {
      const response = await fetch(onceUrl, paidWith(value, init));
      const body = await response.json();
      assert.deepEqual([response.status, problem(body), body.error.reason], [402, "verification-failed", reason]);
      assert.equal(body.money, "nothing_taken");
    };
    await refused(shown, "permit2_allowance_required");
    await refused(await credential({ ...wanted, spender: TOKEN }, account), "signer_mismatch");
    assert.deepEqual([await upstreamHits(), await moved(account)], [hits, 0]);
    assert.equal(await chain.getTransactionCount({ address: wanted.spender }), sent, "gas was spent on it");
    // Once it is allowed, the same permit is good.
    await approvePermit(env("RPC_URL"), account);
    const response = await fetch(onceUrl, paidWith(shown, init));
    assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
    assert.equal(await moved(account), 1);
  },

  async "permit-charge-sent-64-times"() {
    const account = clientPayer(39);
    await approvePermit(env("RPC_URL"), account);
    const init = onceCall("One permit, many copies.");
    const shown = await credential(await asked(onceUrl, init), account);
    const hits = await upstreamHits();
    const send = async (request) => {
      const response = await fetch(onceUrl, paidWith(shown, request));
      return { status: response.status, key: response.headers.get("farthing-key"), body: await response.text() };
    };
    const answers = await Promise.all(Array.from({ length: COPIES }, () => send(init)));
    const count = (status) => answers.filter((a) => a.status === status).length;
    assert.ok(count(200) >= 1 && count(200) + count(409) === COPIES, answers.map((a) => a.status).join(" "));
    assert.equal(answers.filter((a) => a.key !== null).length, 1, "more than one answer carries a key");
    assert.deepEqual([(await send(init)).status, (await send(onceCall("Another."))).status], [200, 403]);
    assert.deepEqual([await upstreamHits(), await moved(account)], [hits + 1, 1]);
  },
});
