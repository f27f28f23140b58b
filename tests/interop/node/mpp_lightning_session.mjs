// A session over Lightning, by a method of ours in mppx, between wallets behind a Nostr relay: Alby's NWC client pays the
// deposits, the gateway's own wallet pays back what is left.
import assert from "node:assert/strict";
import { Mppx } from "mppx/client";
import WebSocket from "ws";
import { call, streamed, url } from "./calls.mjs";
import { env, run, upstreamHits } from "./harness.mjs";
import { withCredential } from "./l402.mjs";
import { challenged, of, problem } from "./mpp.mjs";
import { lightningSessions } from "./mpp_methods.mjs";

globalThis.WebSocket ??= WebSocket;
const { NWCClient } = await import("@getalby/sdk/nwc");

/** The guest's wallet and our secret for it: test keys, as `nwc_wallets.mjs` has them. */
const WALLET = "29ce758bb2d21def214cea069addbd16896ec77924bf0ec9219e00dcf077605e";
const guest = new NWCClient({ nostrWalletConnectUrl: `nostr+walletconnect://${WALLET}?relay=${env("NWC_RELAY")}&secret=${"17".repeat(32)}` });
/** A satoshi is a tenth of a cent here. */
const NANO_PER_SAT = 1_000_000n;
/** Of the model whose output is dear: 1 and 400 USD per million tokens. */
const costOf = (usage) => BigInt(usage.prompt_tokens) * 1000n + BigInt(usage.completion_tokens) * 400_000n;
const dear = (content) => call(content, { ...streamed, model: "dear-play" });

/** Counts what is paid in, and keeps the invoices that are to be paid back. */
function purse() {
  const paid = { sats: 0n, returns: [] };
  const pay = async (invoice) => (await guest.payInvoice({ invoice })).preimage;
  const invoice = async () => {
    const made = await (await fetch(`${env("NWC_RELAY").replace("ws:", "http:")}/__open_invoice`)).json();
    paid.returns.push(made);
    return made.invoice;
  };
  return { paid, wallet: { pay, invoice } };
}

const fresh = async () => of((await challenged(url, dear("Fresh."), { "accept-payment": "lightning/session" })).challenges, "lightning", "session");

/** Reads a stream; when it asks for more, `fill` is called, and it goes on. */
async function read(response, fill) {
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  const events = [];
  let buffer = "";
  const decoder = new TextDecoder();
  for await (const bytes of response.body) {
    buffer += decoder.decode(bytes, { stream: true });
    const whole = buffer.split("\n\n");
    buffer = whole.pop();
    for (const event of whole) {
      const name = /^event: (.*)$/m.exec(event)?.[1] ?? "message";
      const data = /^data: (.*)$/m.exec(event)[1];
      events.push([name, data]);
      if (name === "payment-need-topup") await fill(JSON.parse(data));
    }
  }
  const named = (wanted) => events.filter(([name]) => name === wanted).map(([, data]) => data);
  const chunks = named("message").filter((data) => data !== "[DONE]").map((data) => JSON.parse(data));
  return {
    text: chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join(""),
    usage: chunks.at(-1).usage,
    needs: named("payment-need-topup").map((data) => JSON.parse(data)),
    receipts: named("payment-receipt").map((data) => JSON.parse(data)),
  };
}

async function sessionFromOpenToClose() {
  const { paid, wallet } = purse();
  const session = lightningSessions(wallet);
  const { fetch: pay } = Mppx.create({ methods: [session.method], polyfill: false });
  const hits = await upstreamHits();
  let [deposited, spent] = [0n, 0n];
  const add = (challenge) => (deposited += BigInt(challenge.request.depositAmount) * NANO_PER_SAT);

  const fill = async (need) => {
    assert.equal(need.sessionId, session.id);
    assert.ok(need.balanceRequired > 0);
    const challenge = await fresh();
    const answer = await fetch(url, withCredential(await session.topUp(challenge), dear("Not a call.")));
    assert.deepEqual([answer.status, await answer.json()], [200, { status: "ok" }]);
    add(challenge);
  };
  const expected = (await read(await fetch(`${env("UPSTREAM_URL")}/v1/chat/completions`, dear("Again.")))).text;
  let needed = 0;
  for (let calls = 0; calls < 3; calls += 1) {
    if (calls === 0) add(await fresh());
    const answer = await read(await pay(url, dear("Again.")), fill);
    assert.equal(answer.text, expected, "something was lost while it waited");
    spent += costOf(answer.usage);
    needed += answer.needs.length;
    const receipt = answer.receipts.at(-1);
    assert.deepEqual([receipt.method, receipt.reference], ["lightning", session.id]);
  }
  assert.ok(needed > 0, "no answer had to wait for more");
  assert.equal(await upstreamHits(), hits + 4);

  const answer = await fetch(url, withCredential(session.close(await fresh()), dear("Not a call.")));
  const told = await answer.json();
  const rest = (deposited - spent) / NANO_PER_SAT;
  assert.deepEqual([answer.status, told.status, told.refundStatus], [200, "closed", "succeeded"], JSON.stringify(told));
  // Half of it is kept for what moving it may cost, as the gateway is configured here: the wallet says no bound.
  assert.ok([rest / 2n, rest / 2n - 1n].includes(BigInt(told.refundSats)), `${told.refundSats} of ${rest}`);
  const [back] = paid.returns;
  const found = await guest.lookupInvoice({ payment_hash: back.payment_hash });
  assert.equal(BigInt(found.amount), BigInt(told.refundSats) * 1000n);
  assert.ok(found.settled_at, "what was left did not arrive");

  const late = await fetch(url, withCredential(await session.method.createCredential({ challenge: await fresh() }), dear("Too late.")));
  assert.deepEqual([late.status, problem(await late.json())], [402, "lightning/session-closed"]);
}

await run({ "lightning-session-from-open-to-close": sessionFromOpenToClose });
guest.close();
