// The unmodified npm package `macaroon` reads our tokens and narrows them, offline.
import assert from "node:assert/strict";
import { importMacaroon } from "macaroon";
import { call, url } from "./calls.mjs";
import { assertBalance, run, upstreamHits } from "./harness.mjs";
import { assertPaidCall, bought, creditNano, credential, withCredential } from "./l402.mjs";

const paid = { payment: undefined, left: 0n };
const now = () => Math.floor(Date.now() / 1000);

/** A copy of the paid token with more caveats, in either alphabet of base64. */
function narrowed(caveats, alphabet = "base64") {
  const macaroon = importMacaroon(paid.payment.token);
  for (const caveat of caveats) macaroon.addFirstPartyCaveat(caveat);
  const token = Buffer.from(macaroon.exportBinary()).toString(alphabet);
  return credential({ ...paid.payment, token });
}

async function refused(caveats, status) {
  const hits = await upstreamHits();
  const response = await fetch(url, withCredential(narrowed(caveats), call("May I?")));
  assert.equal(response.status, status, `${caveats}: ${await response.text()}`);
  assert.equal(await upstreamHits(), hits);
}

async function reads() {
  paid.payment = await bought();
  paid.left = creditNano(paid.payment.token);
  const { location, caveats } = importMacaroon(paid.payment.token);
  assert.equal(location, "lsat");
  const texts = caveats.map((caveat) => Buffer.from(caveat.identifier).toString());
  assert.equal(texts[0], "services=farthing:0");
  assert.ok(caveats.length <= 3 && paid.payment.token.length <= 280, "some libraries cannot write larger tokens");
}

async function narrows() {
  const soon = narrowed([`expires=${now() + 600}`, `farthing_valid_until=${now() + 300}`]);
  paid.left = await assertPaidCall(await fetch(url, withCredential(soon, call("In time."))), soon, paid.left);
  const other = narrowed([`models=gpt-*`], "base64url");
  // All of them, and the token they were made of, spend one balance.
  const whole = credential(paid.payment);
  paid.left = await assertPaidCall(await fetch(url, withCredential(other, call("This one."))), whole, paid.left);
}

async function forbids() {
  await refused([`expires=${now() - 1}`], 402);
  await refused([`farthing_valid_until=${now() - 1}`], 402);
  await refused(["models=other-*"], 403);
  await refused(["colour=blue"], 403);
  await assertBalance(credential(paid.payment), paid.left);
}

async function widens() {
  const later = now() + 900;
  await refused([`expires=${later}`, `expires=${later + 1}`], 402);
  await refused(["services=farthing:1"], 402);
  await refused(["services=farthing:0,another:0"], 402);
  await assertBalance(credential(paid.payment), paid.left);
}

async function tampers() {
  const hits = await upstreamHits();
  const bytes = Buffer.from(paid.payment.token, "base64");
  const signature = bytes.length - 1;
  const credit = bytes.indexOf(Buffer.from([2, 66])) + 2 + 38 + 7;
  for (const at of [signature, credit]) {
    const copy = Buffer.from(bytes);
    copy[at] ^= 1;
    const response = await fetch(url, withCredential(credential({ ...paid.payment, token: copy.toString("base64") }), call("Mine?")));
    assert.equal(response.status, 402, `byte ${at}: ${await response.text()}`);
  }
  assert.equal(await upstreamHits(), hits);
  await assertBalance(credential(paid.payment), paid.left);
}

await run({
  "macaroon-reads-our-token": reads,
  "macaroon-narrows-offline": narrows,
  "macaroon-caveat-forbids": forbids,
  "macaroon-widened-is-refused": widens,
  "macaroon-tampered-is-refused": tampers,
});
