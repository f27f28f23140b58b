// The unmodified helpers of @x402/extensions: a payment that names itself, a wallet that signs in for its balance, offers
// and receipts whose signatures are checked with the key that the host publishes, and an entry for a catalogue.
import assert from "node:assert/strict";
import { ExactEvmScheme } from "@x402/evm";
import { validateDiscoveryExtension, validateDiscoveryExtensionSpec } from "@x402/extensions/bazaar";
import {
  decodeSignedOffers,
  extractOffersFromPaymentRequired,
  extractReceiptFromResponse,
  findAcceptsObjectFromSignedOffer,
  verifyOfferSignatureJWS,
  verifyReceiptMatchesOffer,
  verifyReceiptSignatureJWS,
} from "@x402/extensions/offer-receipt";
import { appendPaymentIdentifierToExtensions, generatePaymentId } from "@x402/extensions/payment-identifier";
import { createSIWxClientExtension, createSIWxPayload, encodeSIWxHeader, wrapFetchWithSIWx } from "@x402/extensions/sign-in-with-x";
import { wrapFetchWithPayment, x402Client, x402HTTPClient } from "@x402/fetch";
import { NETWORK, clientPayer } from "../chain/chain.mjs";
import { assertBalance, balanceNano, costNano, env, run, upstreamHits } from "./harness.mjs";

const url = `${env("GATEWAY_URL")}/v1/chat/completions`;
/** Of its own: what another script pays must not be taken for what this one paid. */
const wallet = clientPayer(12);
const stranger = clientPayer(13);

const call = (content, headers = {}) => ({
  method: "POST",
  headers: { "content-type": "application/json", ...headers },
  body: JSON.stringify({ model: "gpt-play", max_tokens: 64, messages: [{ role: "user", content }] }),
});

/** A paying client that takes offers of our network only. */
function paying(account) {
  return new x402Client().register(NETWORK, new ExactEvmScheme(account));
}

async function challenge(init, address = url) {
  const response = await fetch(address, init);
  assert.equal(response.status, 402, await response.clone().text());
  const header = response.headers.get("payment-required");
  assert.ok(header.length < 2048, `${header.length} bytes`);
  return JSON.parse(Buffer.from(header, "base64").toString());
}

/** Pays for a call with a fresh signature, under a name. */
async function payAs(name, init) {
  const client = paying(wallet).onBeforePaymentCreation(async ({ paymentRequired }) => {
    appendPaymentIdentifierToExtensions(paymentRequired.extensions, name);
  });
  return wrapFetchWithPayment(fetch, client)(url, init);
}

async function namedPayment() {
  const [hits, name, init] = [await upstreamHits(), generatePaymentId(), call("Name this payment.")];
  const first = await payAs(name, init);
  assert.equal(first.status, 200, await first.clone().text());
  const text = await first.text();
  // The charge is written behind the answer; until then the name is in flight.
  let again = await payAs(name, init);
  for (let tries = 0; again.status === 409 && (await again.clone().json()).code === "in_progress" && tries < 2400; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 25));
    again = await payAs(name, init);
  }
  assert.equal(again.status, 200, await again.clone().text());
  assert.equal(again.headers.get("farthing-replayed"), "true");
  assert.equal(await again.text(), text);
  const other = await payAs(name, call("Another question under the same name."));
  assert.equal(other.status, 409);
  assert.equal((await other.json()).code, "id_conflict");
  assert.equal(await upstreamHits(), hits + 1);
}

async function signIn() {
  // Whatever this wallet has paid so far, and a little more; the key is thrown away.
  const paid = await wrapFetchWithPayment(fetch, paying(wallet))(url, call("Pay, and lose the key."));
  assert.equal(paid.status, 200, await paid.clone().text());
  const lost = paid.headers.get("farthing-key");
  await paid.text();
  const before = await balanceNano(lost);

  const hits = await upstreamHits();
  const client = paying(wallet).registerExtension(createSIWxClientExtension({ signers: [wallet] }));
  const answer = await wrapFetchWithPayment(fetch, new x402HTTPClient(client))(url, call("Signed in."));
  assert.equal(answer.status, 200, await answer.clone().text());
  assert.equal(answer.headers.get("payment-response"), null, "it paid instead of signing in");
  const key = answer.headers.get("farthing-key");
  assert.match(key ?? "", /^fk_test_/);
  const { usage } = await answer.json();
  await assertBalance(key, before - costNano(usage.prompt_tokens, usage.completion_tokens));
  assert.equal(await upstreamHits(), hits + 1);

  // The helper that signs in and never pays. It takes the network of the first offer.
  const told = await challenge(call("Who may sign in?"));
  if (told.accepts[0].network === NETWORK) {
    const opened = await wrapFetchWithSIWx(fetch, wallet)(url, call("Signed in, the other way."));
    assert.equal(opened.status, 200, await opened.clone().text());
    await opened.text();
  }
}

async function signInOnce() {
  const { info, supportedChains } = (await challenge(call("A challenge.")))["extensions"]["sign-in-with-x"];
  const payload = await createSIWxPayload({ ...info, ...supportedChains[0] }, wallet, url);
  const header = { "sign-in-with-x": encodeSIWxHeader(payload) };
  const first = await fetch(url, call("Once.", header));
  assert.equal(first.status, 200, await first.clone().text());
  await first.text();
  const second = await fetch(url, call("Twice.", header));
  assert.equal(second.status, 402);
  assert.equal(second.headers.get("farthing-key"), null);
  assert.equal((await second.json()).error.reason, "invalid_siwx_nonce");
}

async function keyWithoutACall() {
  const address = `${env("GATEWAY_URL")}/farthing/sign-in`;
  const open = async (account) => {
    const client = paying(account).registerExtension(createSIWxClientExtension({ signers: [account] }));
    const told = await challenge({ method: "POST" }, address);
    assert.deepEqual(told.accepts, [], "nothing is to be paid here");
    const headers = await new x402HTTPClient(client).handlePaymentRequired(told, address);
    return fetch(address, { method: "POST", headers });
  };
  const answer = await open(wallet);
  assert.equal(answer.status, 200, await answer.clone().text());
  const { key, balance } = await answer.json();
  assert.equal(BigInt(balance.amount.replace(".", "")), await balanceNano(key));
  const refused = await open(stranger);
  assert.equal(refused.status, 402);
  assert.equal((await refused.json()).error.reason, "no_account");
}

async function offersAndReceipts() {
  const init = call("Promise it.");
  const told = await challenge(init);
  const signed = extractOffersFromPaymentRequired(told);
  assert.equal(signed.length, told.accepts.length, "an offer is not signed");
  const index = signed.findIndex((offer) => findAcceptsObjectFromSignedOffer(offer, told.accepts)?.network === NETWORK);
  // Finds the key by itself: the name in the signature is a did:web of this host.
  const offer = await verifyOfferSignatureJWS(signed[index]);
  assert.equal(offer.resourceUrl, url);
  assert.equal(decodeSignedOffers(signed)[index].amount, told.accepts[index].amount);
  const answer = await wrapFetchWithPayment(fetch, paying(wallet))(url, init);
  assert.equal(answer.status, 200, await answer.clone().text());
  await answer.text();
  const receipt = extractReceiptFromResponse(answer);
  await verifyReceiptSignatureJWS(receipt);
  assert.ok(verifyReceiptMatchesOffer(receipt, offer, [wallet.address]), "the receipt is for something else");
}

async function discovery() {
  const told = await challenge(call("Who sells?", { "farthing-extensions": "bazaar" }));
  const entry = told.extensions.bazaar;
  assert.deepEqual(validateDiscoveryExtensionSpec(entry), { valid: true });
  assert.deepEqual(validateDiscoveryExtension(entry), { valid: true });
  assert.equal(entry.info.input.method, "POST");
}

await run({
  "named-payment": namedPayment,
  "sign-in": signIn,
  "sign-in-once": signInOnce,
  "key-without-a-call": keyWithoutACall,
  "offers-and-receipts": offersAndReceipts,
  "discovery": discovery,
});
