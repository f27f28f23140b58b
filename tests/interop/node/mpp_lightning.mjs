// Payments over Lightning in the Payment scheme: mppx with a method of ours.
import assert from "node:assert/strict";
import { Mppx } from "mppx/client";
import { assertStreamed, call, readStream, streamed, url } from "./calls.mjs";
import { assertBalance, balanceNano, costNano, run, upstreamHits } from "./harness.mjs";
import { credential as l402Credential, challenged as l402Challenged, onceCall, onceUrl, payInvoice, payments, withCredential } from "./l402.mjs";
import { FIXED_NANO, altered, assertReceipt, challenged, of, problem } from "./mpp.mjs";
import { lightning } from "./mpp_methods.mjs";

const wanted = { "accept-payment": "lightning/charge" };

/** A client that keeps the credential it has sent: whoever has it can show it again. */
function client() {
  const sent = [];
  const looking = async (input, init) => {
    sent.push(new Headers(init.headers).get("authorization"));
    return fetch(input, init);
  };
  return { sent, mppx: Mppx.create({ methods: [lightning(payInvoice)], polyfill: false, fetch: looking }) };
}

/** What the last payment was worth: a satoshi is a tenth of a cent here. */
const paidNano = async () => BigInt((await payments()).at(-1).msat) * 1000n;

async function assertPaid(response, before) {
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  const { usage } = await response.json();
  return before - costNano(usage.prompt_tokens, usage.completion_tokens);
}

async function chargePaysAndDraws() {
  const [before, hits] = [(await payments()).length, await upstreamHits()];
  const { mppx, sent } = client();
  const response = await mppx.fetch(url, call("Over Lightning."));
  const receipt = assertReceipt(response, "lightning");
  const key = response.headers.get("farthing-key");
  let left = await assertPaid(response, await paidNano());
  assert.equal((await payments()).length, before + 1);
  assert.equal(receipt.reference, (await payments()).at(-1).hash);
  assert.equal(receipt.challengeId, JSON.parse(Buffer.from(sent[1].slice(8), "base64url")).challenge.id);
  await assertBalance(key, left);

  // What is left of it opens more calls, to whoever holds the preimage.
  const again = await fetch(url, withCredential(sent[1], call("Over Lightning.")));
  left = await assertPaid(again, left);
  assert.equal(again.headers.get("farthing-key"), null, "a second key for one payment");
  await assertBalance(key, left);
  assert.deepEqual([(await payments()).length, await upstreamHits()], [before + 1, hits + 2]);
}

async function chargeStreams() {
  const init = call("Over Lightning, word by word.", streamed);
  const response = await client().mppx.fetch(url, call("Over Lightning, word by word.", streamed));
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  assertReceipt(response, "lightning");
  const answer = await readStream(response.body);
  await assertStreamed(answer, init);
  const left = (await paidNano()) - costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
  await assertBalance(response.headers.get("farthing-key"), left);
}

async function fixedPriceOnce() {
  const { mppx, sent } = client();
  const response = await mppx.fetch(onceUrl, onceCall("Once."));
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  await response.text();
  const key = response.headers.get("farthing-key");
  const left = (await paidNano()) - FIXED_NANO;
  await assertBalance(key, left);
  const [hits, before] = [await upstreamHits(), (await payments()).length];
  const again = await fetch(onceUrl, withCredential(sent[1], onceCall("Once.")));
  assert.equal(again.status, 403, await again.clone().text());
  assert.equal(again.headers.get("www-authenticate"), null);
  assert.equal(problem(await again.json()), "verification-failed");
  assert.deepEqual([await upstreamHits(), (await payments()).length], [hits, before]);
  await assertBalance(key, left);
}

async function preimageHasToOpenIt() {
  const { mppx } = client();
  const init = () => call("Guessed.");
  const credential = await mppx.createCredential(await fetch(url, { ...init(), headers: { ...init().headers, ...wanted } }));
  const hits = await upstreamHits();
  const rows = [
    ["another preimage", ({ payload }) => (payload.preimage = "11".repeat(32)), "verification-failed"],
    ["no preimage", ({ payload }) => (payload.preimage = "11"), "malformed-credential"],
    ["another route's", ({ challenge }) => (challenge.opaque = Buffer.from('{"rt":"once"}').toString("base64url")), "invalid-challenge"],
  ];
  for (const [name, change, type] of rows) {
    const response = await fetch(url, withCredential(altered(credential, change), init()));
    assert.deepEqual([response.status, problem(await response.json())], [402, type], name);
  }
  assert.equal(await upstreamHits(), hits);
  const good = await fetch(url, withCredential(credential, init()));
  assert.equal(good.status, 200, good.ok ? "" : await good.text());
}

/** One 402, one invoice: whichever way its payment is shown, it came in once. */
async function oneInvoiceTwoDoors() {
  const init = () => call("Two doors.");
  const { token, invoice, answer } = await l402Challenged(url, init());
  const lines = answer.lines.filter(([name]) => name === "www-authenticate").map(([, value]) => value);
  const unpaid = new Response(null, { status: 402, headers: lines.map((line) => ["www-authenticate", line]) });
  const paid = [];
  const once = async (asked) => {
    assert.equal(asked, invoice, "another invoice in one answer");
    paid.push(await payInvoice(asked));
    return paid[0];
  };
  const { createCredential } = Mppx.create({ methods: [lightning(once)], polyfill: false });
  const payment = await createCredential(unpaid);
  const credit = await paidNano();
  const first = await fetch(url, withCredential(payment, init()));
  const key = first.headers.get("farthing-key");
  let left = await assertPaid(first, credit);
  const l402 = l402Credential({ token, preimage: paid[0] });
  const second = await fetch(url, withCredential(l402, init()));
  left = await assertPaid(second, left);
  assert.equal(second.headers.get("farthing-key"), null, "one payment was taken for two");
  await assertBalance(key, left);
  assert.equal(await balanceNano(l402), left);
}

async function offeredToWhoeverWants() {
  const { challenges } = await challenged(url, call("What is there?"), wanted);
  const charge = of(challenges, "lightning", "charge");
  assert.deepEqual([charge.request.currency, charge.request.methodDetails.network], ["sat", "regtest"]);
  assert.match(charge.request.methodDetails.invoice, /^lnbcrt/);
  const none = await challenged(url, call("What is there?"), { "accept-payment": "evm/charge" });
  assert.ok(none.lines.every((line) => !line.includes('method="lightning"') && !line.startsWith("L402 ")), "an invoice that nobody wants");
}

await run({
  "lightning-is-offered-to-whoever-wants-it": offeredToWhoeverWants,
  "lightning-charge-pays-and-draws": chargePaysAndDraws,
  "lightning-charge-streams": chargeStreams,
  "lightning-charge-of-a-fixed-price-once": fixedPriceOnce,
  "lightning-preimage-has-to-open-it": preimageHasToOpenIt,
  "lightning-one-invoice-two-doors": oneInvoiceTwoDoors,
});
