// An x402 facilitator on loopback, made of the reference packages: POST /verify, POST /settle,
// GET /supported. Listens on 127.0.0.1:PORT and moves money on the chain at RPC_URL, and on Solana at
// SOLANA_RPC_URL if that is set.
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

/** Every call since the start, oldest first, for the tests: GET /__calls. */
const calls = [];

async function readJson(request) {
  let text = "";
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}

/** Asks the reference packages and notes what was asked and answered. */
async function asked(op, request) {
  const { paymentPayload, paymentRequirements } = await readJson(request);
  const { scheme, amount } = paymentRequirements;
  // Noted before the answer: a test that sees the answer also sees the call.
  const call = { op, scheme, amount, type: paymentPayload.payload.type };
  calls.push(call);
  const answer = await facilitator[op](paymentPayload, paymentRequirements);
  call.reason = answer.invalidReason ?? answer.errorReason;
  return answer;
}

async function answer(request) {
  switch (`${request.method} ${request.url}`) {
    case "GET /supported":
      return facilitator.getSupported();
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
