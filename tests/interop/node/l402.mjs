// What all clients that pay by L402 ask and look at here, whatever package they pay with.
import assert from "node:assert/strict";
import http from "node:http";
import { importMacaroon } from "macaroon";
import { call, url } from "./calls.mjs";
import { assertBalance, balanceNano, costNano, env, upstreamHits } from "./harness.mjs";

/** A call that costs the same whatever it uses. */
export const onceUrl = `${env("GATEWAY_URL")}/v1/responses`;
export const onceCall = (input) => ({ ...call(""), body: JSON.stringify({ model: "gpt-play", input }) });

/** One that costs less than a satoshi. */
export const cheapUrl = `${env("GATEWAY_URL")}/api/generate`;
export const cheapCall = { ...call(""), body: JSON.stringify({ model: "gpt-play", prompt: "Cheap.", stream: false }) };

/** The only form that every known client can read (specs/l402.md). */
const CHALLENGE = /^L402 macaroon="([A-Za-z0-9+/]+={0,2})", invoice="(lnbcrt[a-z0-9]+)", version="0", token="([A-Za-z0-9+/]+={0,2})"$/;

/** Pays an invoice of the test node. */
export async function payInvoice(invoice) {
  const answer = await fetch(`${env("WALLET_URL")}/pay`, { method: "POST", body: JSON.stringify({ invoice }) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.message);
  return told.preimage;
}

/** What the wallet has paid so far, oldest first. */
export async function payments() {
  return (await fetch(`${env("WALLET_URL")}/__calls`)).json();
}

/** A POST on a connection of its own: status, header lines as they came, body. */
export function send(target, init, headers = {}) {
  return new Promise((resolve, reject) => {
    const options = { method: init.method, headers: { ...init.headers, ...headers }, agent: false };
    const request = http.request(target, options, async (answer) => {
      const pieces = [];
      for await (const piece of answer) pieces.push(piece);
      const lines = [];
      for (let i = 0; i < answer.rawHeaders.length; i += 2) lines.push([answer.rawHeaders[i].toLowerCase(), answer.rawHeaders[i + 1]]);
      resolve({ status: answer.statusCode, lines, body: Buffer.concat(pieces).toString() });
    });
    request.on("error", reject);
    request.end(init.body);
  });
}

export const header = (answer, name) => answer.lines.find(([key]) => key === name)?.[1];

/** Token and invoice of an unpaid call, which must not have reached the upstream. */
export async function challenged(target, init) {
  const hits = await upstreamHits();
  const answer = await send(target, init);
  assert.equal(answer.status, 402, answer.body);
  assert.match(header(answer, "cache-control") ?? "", /no-store/);
  const first = header(answer, "www-authenticate");
  const [, macaroon, invoice, token] = CHALLENGE.exec(first) ?? assert.fail(`the first challenge is ${first}`);
  assert.equal(macaroon, token);
  assert.equal(await upstreamHits(), hits, "an unpaid call reached the upstream");
  return { token, invoice, answer };
}

/** Pays for a credential that nobody has used. */
export async function bought(target = url, init = call("Just to pay.")) {
  const { token, invoice } = await challenged(target, init);
  return { token, invoice, preimage: await payInvoice(invoice) };
}

export const credential = ({ token, preimage }) => `L402 ${token}:${preimage}`;
export const withCredential = (value, init) => ({ ...init, headers: { ...init.headers, authorization: value } });
/** The form of a credential that an SDK takes as its API key. */
export const wrapped = ({ token, preimage }) => `l402_${Buffer.from(token, "base64").toString("base64url")}.${preimage}`;

/** What a token is good for, in billionths of a dollar: it stands in its identifier, where no holder can change it. */
export function creditNano(token) {
  const { identifier } = importMacaroon(token);
  return Buffer.from(identifier).readBigInt64BE(38);
}

/** Fails unless this answer is the one that was paid for, and charged exactly, as `value` (a credential) sees it. */
export async function assertPaidCall(response, value, before) {
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  const { usage } = await response.json();
  const left = before - costNano(usage.prompt_tokens, usage.completion_tokens);
  await assertBalance(value, left);
  return left;
}

/** Asks again while the call before it is still being charged: that follows its last byte. */
export async function settled(ask) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const response = await ask();
    if (response.status !== 409 || Date.now() > deadline) return response;
    await response.text();
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A prompt of a fifth of what a fresh token is good for. */
const LONG = `${"more ".repeat(400)}`;

/** Calls with `ask` until what was paid is used up: until it says so (true). Returns the answer to the last call. */
export async function useUp(ask) {
  for (let calls = 0; calls < 20; calls += 1) {
    const [response, enough] = await ask(call(LONG));
    if (enough) return response;
    assert.equal(response.status, 200, response.ok ? "" : await response.text());
    await response.text();
  }
  return assert.fail("20 calls, and something is left of a payment for six");
}

export { balanceNano };
