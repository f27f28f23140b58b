// An x402 facilitator on loopback, made of the reference packages: POST /verify, POST /settle,
// GET /supported. Listens on 127.0.0.1:PORT and moves money on the chain at RPC_URL.
import { createServer } from "node:http";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/facilitator";
import { NETWORK, chainClient, facilitatorAccount } from "./chain.mjs";

const account = facilitatorAccount();
const client = chainClient(process.env.RPC_URL, account);
const signer = toFacilitatorEvmSigner({ ...client, address: account.address }, { confirmationTimeoutMs: 10_000 });
const facilitator = new x402Facilitator()
  .register(NETWORK, new ExactEvmScheme(signer))
  .registerV1("base-sepolia", new ExactEvmSchemeV1(signer));

/** Calls of each operation since the start, for the tests: GET /__calls. */
const calls = { verify: 0, settle: 0 };

async function readJson(request) {
  let text = "";
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}

async function answer(request) {
  switch (`${request.method} ${request.url}`) {
    case "GET /supported":
      return facilitator.getSupported();
    case "GET /__calls":
      return calls;
    case "POST /verify": {
      calls.verify += 1;
      const { paymentPayload, paymentRequirements } = await readJson(request);
      return facilitator.verify(paymentPayload, paymentRequirements);
    }
    case "POST /settle": {
      calls.settle += 1;
      const { paymentPayload, paymentRequirements } = await readJson(request);
      return facilitator.settle(paymentPayload, paymentRequirements);
    }
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
