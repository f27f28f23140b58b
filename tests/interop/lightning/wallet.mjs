// A wallet for the invoices of the gateway's `test` node: whoever has such an invoice can work out its preimage, so
// paying needs no network and moves nothing. It answers as LND's REST interface does, and simpler for clients that
// want a function: `POST /pay {"invoice"}` -> `{"preimage"}`. `GET /__calls` lists what it paid.
import { createHash } from "node:crypto";
import http from "node:http";
import bolt11 from "bolt11";

/** What every caller of the LND interface must show: a test key, worth nothing. */
export const MACAROON = "0201036c6e64";
/** Of the test node: bech32 prefix as `bolt11` wants it, and the public key that signs. */
const REGTEST = { bech32: "bcrt", pubKeyHash: 0x6f, scriptHash: 0xc4, validWitnessVersions: [0, 1] };

const paid = [];

/** Pays once: a second payment of one invoice is refused, as nodes do. */
function pay(invoice, how) {
  const { tagsObject: tags, millisatoshis, timeExpireDate } = bolt11.decode(invoice, REGTEST);
  const hash = tags.payment_hash;
  const secret = Buffer.from(tags.payment_secret, "hex");
  const preimage = createHash("sha256").update("farthing/test-preimage/1").update(secret).digest();
  if (createHash("sha256").update(preimage).digest("hex") !== hash) throw new Error("not an invoice of the test node");
  if (Date.now() / 1000 >= timeExpireDate) throw new Error("invoice expired");
  if (paid.some((payment) => payment.hash === hash)) throw new Error("invoice is already paid");
  paid.push({ hash, msat: Number(millisatoshis), how });
  return { hash, msat: BigInt(millisatoshis), preimage: preimage.toString("hex") };
}

/** As LND streams the end of a payment: one JSON document per line, 64-bit integers as text. */
function lnd(asked) {
  try {
    const { hash, msat, preimage } = pay(asked.payment_request, "lnd");
    const value = { value_msat: `${msat}`, value_sat: `${msat / 1000n}`, fee_msat: "0", fee_sat: "0" };
    return { result: { status: "SUCCEEDED", payment_hash: hash, payment_preimage: preimage, failure_reason: "FAILURE_REASON_NONE", ...value } };
  } catch (error) {
    return { error: { code: 6, message: error.message } };
  }
}

async function answer(request) {
  if (request.method === "GET" && request.url === "/__calls") return [200, paid];
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const asked = JSON.parse(Buffer.concat(pieces).toString());
  if (request.url === "/pay") return [200, { preimage: pay(asked.invoice, "callback").preimage }];
  if (request.url !== "/v2/router/send") return [404, { code: 5, message: "Not Found" }];
  if (request.headers["grpc-metadata-macaroon"] !== MACAROON) return [500, { code: 2, message: "cannot determine macaroon" }];
  return [200, lnd(asked)];
}

const server = http.createServer(async (request, response) => {
  const [status, body] = await answer(request).catch((error) => [400, { message: error.message }]);
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(body)}\n`);
});
server.listen(Number(process.env.PORT), "127.0.0.1");
