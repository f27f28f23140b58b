// The unmodified lsat-js, which knows the old name only. It pays nothing itself: it reads a challenge and writes a
// credential.
import assert from "node:assert/strict";
import { Caveat, Lsat } from "lsat-js";
import { assertStreamed, call, readStream, streamed, url } from "./calls.mjs";
import { assertBalance, costNano, run, upstreamHits } from "./harness.mjs";
import { assertPaidCall, challenged, cheapCall, cheapUrl, creditNano, onceCall, onceUrl, payInvoice, payments, settled, useUp, withCredential } from "./l402.mjs";

const paid = { lsat: undefined, left: 0n };

/** Asks, pays what is asked, and hands the preimage to the package. */
async function buy(target, init) {
  const response = await fetch(target, init);
  assert.equal(response.status, 402);
  const lsat = Lsat.fromHeader(response.headers.get("www-authenticate"));
  assert.ok(lsat.isPending());
  const unpaid = await fetch(target, withCredential(lsat.toToken(), init));
  assert.equal(unpaid.status, 402, "a credential without a preimage");
  lsat.setPreimage(await payInvoice(lsat.invoice));
  assert.ok(lsat.isSatisfied());
  return lsat;
}

async function pays() {
  const init = call("Say something short.");
  const lsat = await buy(url, init);
  assert.equal(lsat.invoiceAmount, 2, "what it reads from the invoice, in whole satoshis");
  const token = lsat.toToken();
  assert.match(token, /^LSAT /);
  const response = await fetch(url, withCredential(token, init));
  const left = await assertPaidCall(response, token, creditNano(lsat.baseMacaroon));
  Object.assign(paid, { lsat, left });
}

async function drawsWithoutPaying() {
  const before = (await payments()).length;
  const token = paid.lsat.toToken();
  paid.left = await assertPaidCall(await fetch(url, withCredential(token, call("And more."))), token, paid.left);
  const init = withCredential(token, call("A short story, please.", streamed));
  const answer = await readStream((await fetch(url, init)).body);
  await assertStreamed(answer, call("A short story, please.", streamed));
  paid.left -= costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
  await assertBalance(token, paid.left);
  assert.equal((await payments()).length, before);
}

/** Its own caveat is a time in milliseconds. */
async function expires() {
  const hits = await upstreamHits();
  const narrowed = (time) => {
    const copy = Lsat.fromToken(paid.lsat.toToken(), paid.lsat.invoice);
    copy.addFirstPartyCaveat(new Caveat({ condition: "expiration", value: time }));
    // It reads the time of a token when it reads the token.
    return Lsat.fromToken(copy.toToken(), paid.lsat.invoice);
  };
  const good = narrowed(Date.now() + 600_000);
  assert.equal(good.isExpired(), false);
  paid.left = await assertPaidCall(await fetch(url, withCredential(good.toToken(), call("In time."))), good.toToken(), paid.left);
  const late = narrowed(Date.now() - 1000);
  assert.equal(late.isExpired(), true);
  const refused = await fetch(url, withCredential(late.toToken(), call("Too late.")));
  assert.equal(refused.status, 402, await refused.text());
  assert.equal(await upstreamHits(), hits + 1);
  await assertBalance(paid.lsat.toToken(), paid.left);
}

async function exhausted() {
  const last = await useUp(async (init) => {
    const response = await fetch(url, withCredential(paid.lsat.toToken(), init));
    return [response, response.status !== 200];
  });
  assert.equal(last.status, 402);
  const next = Lsat.fromHeader(last.headers.get("www-authenticate"));
  assert.notEqual(next.paymentHash, paid.lsat.paymentHash, "the invoice of a 402 is the one that was paid");
}

async function fixedPriceOnce() {
  const lsat = await buy(onceUrl, onceCall("Once."));
  const ask = (input) => fetch(onceUrl, withCredential(lsat.toToken(), onceCall(input)));
  const first = await ask("Once.");
  assert.equal(first.status, 200, first.ok ? "" : await first.text());
  await first.text();
  const hits = await upstreamHits();
  assert.equal((await settled(() => ask("Twice."))).status, 403);
  assert.equal(await upstreamHits(), hits);
}

/** It counts none. */
async function belowASatoshi() {
  const lsat = await buy(cheapUrl, cheapCall);
  assert.equal(lsat.invoiceAmount, 0);
  const response = await fetch(cheapUrl, withCredential(lsat.toToken(), cheapCall));
  assert.equal(response.status, 200, await response.text());
}

/** Every hop of a route learns the preimage of a payment, so one invoice is never for two. */
async function twoClientsTwoHashes() {
  const asked = await Promise.all(Array.from({ length: 8 }, () => challenged(url, call("Whose is it?"))));
  const hashes = asked.map(({ token, invoice }) => Lsat.fromMacaroon(token, invoice).paymentHash);
  assert.equal(new Set(hashes).size, 8);
}

await run({
  "l402-pays": pays,
  "l402-draws-without-paying": drawsWithoutPaying,
  "l402-expiration-in-ms": expires,
  "l402-exhausted": exhausted,
  "l402-fixed-price-once": fixedPriceOnce,
  "l402-below-a-satoshi": belowASatoshi,
  "two-clients-two-hashes": twoClientsTwoHashes,
});
