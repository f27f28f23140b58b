// The unmodified @getalby/lightning-tools: `fetchWithL402`, and `fetch402`, which also knows other ways to pay.
import assert from "node:assert/strict";
import { fetch402, fetchWithL402 } from "@getalby/lightning-tools/402";
import { assertStreamed, call, readStream, streamed, url } from "./calls.mjs";
import { assertBalance, balanceNano, costNano, run, upstreamHits } from "./harness.mjs";
import { assertPaidCall, cheapCall, cheapUrl, creditNano, onceCall, onceUrl, payInvoice, payments, settled, useUp } from "./l402.mjs";

const wallet = { payInvoice: async ({ invoice }) => ({ preimage: await payInvoice(invoice) }) };

/** What a scenario passes on to the next: the credential, and what is left on it, in nano-USD. */
const paid = new Map();

/** It answers in the name that it was asked in. */
const tokenOf = ({ value }) => /^(?:L402|LSAT) ([^:]+):/.exec(value)[1];

async function pays(pay) {
  const before = (await payments()).length;
  const response = await pay(url, call("Say something short."), { wallet });
  const { credentials, ...payment } = response.payment;
  const left = await assertPaidCall(response, credentials.value, creditNano(tokenOf(credentials)));
  assert.equal((await payments()).length, before + 1);
  assert.equal(payment.paid, true);
  assert.ok(payment.amountSat >= 1, `it thinks it paid ${payment.amountSat} sat`);
  assert.equal(credentials.header, "Authorization");
  assert.match(response.headers.get("farthing-key") ?? "", /^fk_test_/);
  await assertBalance(response.headers.get("farthing-key"), left);
  paid.set(pay, { credentials, left });
}

async function drawsWithoutPaying(pay) {
  const { credentials, left } = paid.get(pay);
  const before = (await payments()).length;
  const response = await pay(url, call("And something more."), { wallet, credentials });
  const rest = await assertPaidCall(response, credentials.value, left);
  assert.equal(response.headers.get("farthing-key"), null, "a second key for one payment");
  assert.equal((await payments()).length, before);
  paid.set(pay, { credentials, left: rest });
}

async function streams(pay) {
  const { credentials, left } = paid.get(pay);
  const init = call("A short story, please.", streamed);
  const response = await pay(url, init, { wallet, credentials });
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  const answer = await readStream(response.body);
  await assertStreamed(answer, call("A short story, please.", streamed));
  await assertBalance(credentials.value, left - costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens));
}

/** It pays for the call that streams. */
async function paysAndStreams(pay) {
  const init = call("A short story, please.", streamed);
  const response = await pay(url, init, { wallet });
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  const { value } = response.payment.credentials;
  const answer = await readStream(response.body);
  await assertStreamed(answer, call("A short story, please.", streamed));
  const cost = costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
  await assertBalance(value, creditNano(tokenOf({ value })) - cost);
}

/** With a credential it never pays: the 402 is its caller's to look at, who pays by calling without. */
async function exhaustedIsTold(pay) {
  const { credentials } = paid.get(pay);
  const before = (await payments()).length;
  const last = await useUp(async (init) => {
    const response = await pay(url, init, { wallet, credentials });
    return [response, response.status !== 200];
  });
  assert.equal(last.status, 402);
  assert.match(last.headers.get("www-authenticate") ?? "", /^L402 macaroon="/);
  const body = await last.json();
  assert.equal(body.error.code, "insufficient_balance", JSON.stringify(body));
  assert.equal((await payments()).length, before, "it paid on its own");

  const again = await pay(url, call("Something else."), { wallet });
  await assertPaidCall(again, again.payment.credentials.value, creditNano(tokenOf(again.payment.credentials)));
  assert.equal((await payments()).length, before + 1);
}

async function fixedPriceOnce(pay) {
  const response = await pay(onceUrl, onceCall("Once."), { wallet });
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  await response.text();
  const { credentials } = response.payment;
  const [hits, before] = [await upstreamHits(), (await payments()).length];
  const again = await settled(() => pay(onceUrl, onceCall("Twice."), { wallet, credentials }));
  assert.equal(again.status, 403, await again.text());
  assert.equal(await upstreamHits(), hits, "one payment, two calls");
  assert.equal((await payments()).length, before);
  await assertBalance(credentials.value, creditNano(tokenOf(credentials)) - 3_000_000n);
}

/** It pays, and counts a tenth. */
async function belowASatoshi(pay) {
  const before = (await payments()).length;
  const response = await pay(cheapUrl, { ...cheapCall }, { wallet });
  assert.equal(response.status, 200, await response.text());
  assert.equal(response.payment.amountSat, 0.1);
  assert.deepEqual((await payments()).slice(before).map(({ msat }) => msat), [100]);
}

await run({
  "l402-pays": () => pays(fetchWithL402),
  "l402-draws-without-paying": () => drawsWithoutPaying(fetchWithL402),
  "l402-streams": () => streams(fetchWithL402),
  "l402-pays-and-streams": () => paysAndStreams(fetchWithL402),
  "l402-exhausted-is-told": () => exhaustedIsTold(fetchWithL402),
  "l402-fixed-price-once": () => fixedPriceOnce(fetchWithL402),
  "l402-below-a-satoshi": () => belowASatoshi(fetchWithL402),
  "fetch402-pays": () => pays(fetch402),
  "fetch402-draws-without-paying": () => drawsWithoutPaying(fetch402),
  "fetch402-pays-and-streams": () => paysAndStreams(fetch402),
  "fetch402-exhausted-is-told": () => exhaustedIsTold(fetch402),
  "fetch402-fixed-price-once": () => fixedPriceOnce(fetch402),
});
