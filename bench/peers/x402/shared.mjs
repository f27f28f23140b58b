// What both sellers sell: one call for 0.001 USD, passed on to the upstream. The paths are those of the gateway's
// configuration in the benchmark. A seller ends when the one who started it does.
import { Agent, request } from "node:http";
import { privateKeyToAccount } from "viem/accounts";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";

const NETWORK = "eip155:84532";
const { FACILITATOR_URL, PAY_TO, AUTHORIZER_KEY } = process.env;

export const port = Number(process.env.PORT);
export const upstream = new URL(process.env.UPSTREAM_URL);

/** Connections to the upstream are kept, as many as there are callers. */
export const agent = new Agent({ keepAlive: true, maxSockets: 512 });

const sold = (scheme, description) => ({
  accepts: { scheme, price: "$0.001", network: NETWORK, payTo: PAY_TO, maxTimeoutSeconds: 300 },
  description,
  mimeType: "application/json",
});

export const routes = {
  "POST /v1/sold": sold("exact", "one call"),
  "POST /v1/channel": sold("batch-settlement", "one call from a channel"),
};

export const register = (server) =>
  server.register(NETWORK, new ExactEvmScheme()).register(
    NETWORK,
    new BatchSettlementEvmScheme(PAY_TO, {
      receiverAuthorizerSigner: privateKeyToAccount(AUTHORIZER_KEY),
      withdrawDelay: 86_400,
    }),
  );

export const facilitator = () => new HTTPFacilitatorClient({ url: FACILITATOR_URL });

/** Sends the body to the upstream and hands its answer over as soon as its head has come. */
export function forward(path, body, answered, failed) {
  const asked = request(
    { agent, host: upstream.hostname, port: upstream.port, method: "POST", path,
      headers: { "content-type": "application/json", "content-length": body.length } },
    answered,
  );
  asked.on("error", failed);
  asked.end(body);
}
