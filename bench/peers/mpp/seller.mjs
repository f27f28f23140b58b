// A seller made of mppx: its proxy before the upstream, one call for 0.001 USD by `evm` charges and by x402 `exact`, settled
// through the facilitator. Its own path for what it sells: /api in front.
import "urlpattern-polyfill";
import { createServer } from "node:http";
import { Proxy, Service } from "mppx/proxy";
import { Mppx, evm } from "mppx/server";

const { FACILITATOR_URL, PAY_TO, PORT, UPSTREAM_URL } = process.env;

const mppx = Mppx.create({
  secretKey: "no-secret-of-anybody-but-this-benchmark",
  methods: [
    evm.charge({
      currency: evm.assets.baseSepolia.USDC,
      recipient: PAY_TO,
      x402: { facilitator: FACILITATOR_URL },
    }),
  ],
});

const proxy = Proxy.create({
  services: [
    Service.from("api", {
      baseUrl: UPSTREAM_URL,
      routes: { "POST /v1/sold": mppx.charge({ amount: "0.001" }), "POST /v1/free": true },
    }),
  ],
});
createServer(proxy.listener).listen(Number(PORT), "127.0.0.1");
