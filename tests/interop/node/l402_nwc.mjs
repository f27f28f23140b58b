// Wallets behind a Nostr relay on both sides: the gateway's invoices are made by one, and Alby's NWC client pays them
// with the other. The gateway takes a payment when its wallet says that it is there (`strict`).
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { fetchWithL402 } from "@getalby/lightning-tools/402";
import bolt11 from "bolt11";
import WebSocket from "ws";
import { call, url } from "./calls.mjs";
import { env, run, upstreamHits } from "./harness.mjs";
import { assertPaidCall, challenged, creditNano, credential, header, send, withCredential } from "./l402.mjs";

globalThis.WebSocket ??= WebSocket;
const { NWCClient } = await import("@getalby/sdk/nwc");

/** The payer's wallet and our secret for it: test keys, as `nwc_wallets.mjs` has them. */
const WALLET = "ff8adab52623bcb2717fc71d7edc6f55e98396e6c234dff01f307a12b2af1c99";
const payer = new NWCClient({
  nostrWalletConnectUrl: `nostr+walletconnect://${WALLET}?relay=${env("NWC_RELAY")}&secret=${"13".repeat(32)}`,
});
const wallet = { payInvoice: ({ invoice }) => payer.payInvoice({ invoice }) };
const REGTEST = { bech32: "bcrt", pubKeyHash: 0x6f, scriptHash: 0xc4, validWitnessVersions: [0, 1] };

async function invoiceIsPaidByAlbysClient() {
  const response = await fetchWithL402(url, call("Say something short."), { wallet });
  const { value } = response.payment.credentials;
  const token = /^L402 ([^:]+):/.exec(value)[1];
  await assertPaidCall(response, value, creditNano(token));
  assert.match(response.headers.get("farthing-key") ?? "", /^fk_test_/);
}

/** Whoever has such an invoice can work out its preimage: alone it is worth nothing here. */
async function preimageWithoutPaymentOpensNothing() {
  const { token, invoice } = await challenged(url, call("Not paid for."));
  const { tagsObject: tags, millisatoshis } = bolt11.decode(invoice, REGTEST);
  assert.equal(Number(millisatoshis) % 1000, 0, "whole satoshi");
  const secret = Buffer.from(tags.payment_secret, "hex");
  const preimage = createHash("sha256").update("farthing/test-preimage/1").update(secret).digest("hex");
  const init = withCredential(credential({ token, preimage }), call("Not paid for."));
  const hits = await upstreamHits();
  const refused = await send(url, init);
  assert.equal(refused.status, 402, refused.body);
  assert.equal(await upstreamHits(), hits, "an unpaid call reached the upstream");

  const paid = await wallet.payInvoice({ invoice });
  assert.equal(paid.preimage, preimage);
  const served = await send(url, init);
  assert.equal(served.status, 200, served.body);
  assert.match(header(served, "farthing-key") ?? "", /^fk_test_/);
}

await run({
  "nwc-invoice-is-paid-by-albys-client": invoiceIsPaidByAlbysClient,
  "nwc-preimage-without-payment-opens-nothing": preimageWithoutPaymentOpensNothing,
});
payer.close();
