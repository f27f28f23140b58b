// The unmodified mppx pays by its `stripe` method: a shared payment token, granted by the payer's side and charged by the
// gateway at Stripe, whose place this script takes: of its interface what charging such a token needs.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import http from "node:http";
import { Mppx, stripe } from "mppx/client";
import { call, url } from "./calls.mjs";
import { assertBalance, costNano, env, run, upstreamHits } from "./harness.mjs";
import { withCredential } from "./l402.mjs";
import { assertReceipt, challenged, of, problem } from "./mpp.mjs";

/** A cent in billionths of a dollar. */
const NANO_PER_CENT = 10_000_000n;

/** Tokens that were granted: for whom, and how much. */
const granted = new Map();
const charges = [];
const answers = new Map();

/** A PaymentIntent, or why there is none. */
function charge(form) {
  const token = form.get("shared_payment_granted_token");
  const grant = granted.get(token);
  const failure = (status, message) => {
    const declined = status === 402 ? { code: "card_declined", decline_code: message } : {};
    return [status, { error: { type: "card_error", message, ...declined } }];
  };
  if (!grant || grant.used) return failure(400, "no such token");
  if (form.get("confirm") !== "true" || Number(form.get("amount")) > grant.max || form.get("currency") !== grant.currency) {
    return failure(400, "more than was granted");
  }
  if (grant.paymentMethod === "pm_without_money") return failure(402, "insufficient_funds");
  grant.used = true;
  const intent = {
    id: `pi_${charges.length + 1}`,
    object: "payment_intent",
    status: "succeeded",
    amount: Number(form.get("amount")),
    amount_received: Number(form.get("amount")),
    currency: grant.currency,
    livemode: false,
    metadata: { challenge_id: form.get("metadata[challenge_id]") },
  };
  charges.push(intent);
  return [200, intent];
}

const server = http.createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const id = request.headers["idempotency-key"];
  const known = request.headers.authorization === "Bearer sk_test_of_interop" && request.url === "/v1/payment_intents";
  if (known && !answers.has(id)) answers.set(id, charge(new URLSearchParams(Buffer.concat(pieces).toString())));
  const [status, body] = known ? answers.get(id) : [404, { error: { type: "invalid_request_error" } }];
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
});
await new Promise((resolve) => server.listen(Number(env("PEER_PORT")), "127.0.0.1", resolve));

/** The client as its documentation has it: who grants tokens is the caller's own service. */
function client(paymentMethod) {
  const sent = [];
  const method = stripe.charge({
    paymentMethod,
    async createToken({ amount, currency, networkId, paymentMethod }) {
      assert.equal(networkId, "profile_interop");
      const token = `spt_${randomBytes(12).toString("hex")}`;
      granted.set(token, { max: Number(amount), currency, paymentMethod });
      return token;
    },
  });
  const looking = async (input, init) => {
    sent.push(new Headers(init.headers).get("authorization"));
    return fetch(input, init);
  };
  return { sent, ...Mppx.create({ methods: [method], polyfill: false, fetch: looking }) };
}

async function pays() {
  const { challenges } = await challenged(url, call("By card."), { "accept-payment": "stripe/charge" });
  const asked = of(challenges, "stripe", "charge").request;
  const [before, hits] = [charges.length, await upstreamHits()];
  const { fetch: pay, sent } = client("pm_card_visa");
  const response = await pay(url, call("By card."));
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  assert.equal(charges.length, before + 1);
  assert.deepEqual([charges.at(-1).amount, charges.at(-1).currency], [Number(asked.amount), "usd"]);
  assert.equal(assertReceipt(response, "stripe").reference, charges.at(-1).id);
  const { usage } = await response.json();
  const left = BigInt(asked.amount) * NANO_PER_CENT - costNano(usage.prompt_tokens, usage.completion_tokens);
  await assertBalance(response.headers.get("farthing-key"), left);

  // Whoever shows it again, for the same request, is told the same; for another, nothing.
  const again = await fetch(url, withCredential(sent[1], call("By card.")));
  assert.deepEqual([again.status, (await again.json()).usage], [200, usage]);
  const other = await fetch(url, withCredential(sent[1], call("By the same card.")));
  assert.equal(other.status, 403, await other.clone().text());
  assert.equal(problem(await other.json()), "verification-failed");
  assert.deepEqual([charges.length, await upstreamHits()], [before + 1, hits + 1]);
}

async function declined() {
  const [before, hits] = [charges.length, await upstreamHits()];
  const { fetch: pay, sent } = client("pm_without_money");
  const response = await pay(url, call("By an empty card."));
  assert.equal(response.status, 402);
  assert.equal(problem(await response.json()), "verification-failed");
  assert.ok(sent.length <= 4, `${sent.length} requests`);
  assert.deepEqual([charges.length, await upstreamHits()], [before, hits]);
}

await run({ "stripe-pays-once": pays, "stripe-declined-is-told": declined });
