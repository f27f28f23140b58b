// An x402 facilitator on loopback, made of the reference packages: POST /verify, POST /settle,
// GET /supported. Listens on 127.0.0.1:PORT and moves money on the chain at RPC_URL, and on Solana at
// SOLANA_RPC_URL if that is set. What the facilitator at BEHIND_URL can do, that one does, if there is one.
import { createServer } from "node:http";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/facilitator";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/facilitator";
import { UptoEvmScheme } from "@x402/evm/upto/facilitator";
import { toFacilitatorSvmSigner } from "@x402/svm";
import { ExactSvmScheme } from "@x402/svm/exact/facilitator";
import { nonceManager } from "viem";
import { NETWORK, chainClient, facilitatorAccount } from "./chain.mjs";
import { DEVNET, FEE_PAYER, keyPair } from "./solana.mjs";

// Payments settle side by side: without a count of its own each would ask the chain for the next nonce, and two get the same.
const account = facilitatorAccount({ nonceManager });
const client = chainClient(process.env.RPC_URL, account);
const signer = toFacilitatorEvmSigner({ ...client, address: account.address }, { confirmationTimeoutMs: 10_000 });
const facilitator = new x402Facilitator()
  .register(NETWORK, new ExactEvmScheme(signer))
  .register(NETWORK, new UptoEvmScheme(signer))
  // Without a key for claims and refunds: those are signed by the seller, who keeps the key.
  .register(NETWORK, new BatchSettlementEvmScheme(signer))
  .registerV1("base-sepolia", new ExactEvmSchemeV1(signer));
if (process.env.SOLANA_RPC_URL) {
  const feePayer = toFacilitatorSvmSigner(await keyPair(FEE_PAYER), { defaultRpcUrl: process.env.SOLANA_RPC_URL });
  facilitator.register(DEVNET, new ExactSvmScheme(feePayer));
}

/** The kinds of the facilitator behind. */
const behind = process.env.BEHIND_URL;
const theirs = behind ? (await (await fetch(`${behind}/supported`)).json()).kinds : [];
const isTheirs = ({ x402Version, scheme, network }) =>
  theirs.some((k) => k.x402Version === x402Version && k.scheme === scheme && k.network === network);

/** Every call since the start, oldest first, for the tests: GET /__calls. */
const calls = [];

async function readJson(request) {
  let text = "";
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}

/** What this facilitator, or the one behind, says to a call. */
async function decided(op, body) {
  const { paymentPayload, paymentRequirements } = body;
  const { scheme, network } = paymentRequirements;
  if (!isTheirs({ x402Version: paymentPayload.x402Version, scheme, network })) {
    return facilitator[op](paymentPayload, paymentRequirements);
  }
  const headers = { "content-type": "application/json" };
  const answer = await (await fetch(`${behind}/${op}`, { method: "POST", headers, body: JSON.stringify(body) })).json();
  console.log(op, scheme, "decided by the facilitator behind:", answer.success ?? answer.isValid);
  return answer;
}

/** Lets a call be decided, and notes what was asked and answered. */
async function asked(op, request) {
  const body = await readJson(request);
  const { scheme, amount } = body.paymentRequirements;
  // Noted before the answer: a test that sees the answer also sees the call.
  const call = { op, scheme, amount, type: body.paymentPayload.payload.type };
  calls.push(call);
  const answer = await decided(op, body);
  call.reason = answer.invalidReason ?? answer.errorReason;
  return answer;
}

function supported() {
  const ours = facilitator.getSupported();
  return { ...ours, kinds: [...theirs, ...ours.kinds.filter((kind) => !isTheirs(kind))] };
}

async function answer(request) {
  switch (`${request.method} ${request.url}`) {
    case "GET /supported":
      return supported();
    case "GET /__calls":
      return calls;
    case "POST /verify":
      return asked("verify", request);
    case "POST /settle":
      return asked("settle", request);
    default:
      return undefined;
  }
}

createServer(async (request, response) => {
  try {
    const body = await answer(request);
    response.writeHead(body === undefined ? 404 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(body ?? { error: "not found" }));
  } catch (error) {
    console.error(error);
    response.writeHead(500, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: String(error?.message ?? error) }));
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
