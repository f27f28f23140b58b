// One route, one 402, and clients that know nothing of each other: each finds its own way to pay in it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fetch402 } from "@getalby/lightning-tools/402";
import { ExactEvmScheme } from "@x402/evm";
import { wrapFetchWithPaymentFromConfig, x402Client, x402HTTPClient } from "@x402/fetch";
import { Mppx, evm } from "mppx/client";
import OpenAI from "openai";
import { CHAIN_ID, NETWORK, clientPayer, transfers } from "../chain/chain.mjs";
import { call, url } from "./calls.mjs";
import { assertBalance, balanceNano, costNano, env, run, upstreamHits } from "./harness.mjs";
import { challenged as l402Challenged, credential, header, payInvoice, payments } from "./l402.mjs";
import { assertReceipt, challenged, of } from "./mpp.mjs";
import { NANO_PER_ATOMIC, chain, payTo, unpaid } from "./x402.mjs";

/** Afresh for each client: mppx writes into the headers that it is given. */
const init = () => call("What do you take?");
const moved = async (account) => (await transfers(chain, account.address, payTo)).length;

/** The version that is installed. */
function version(name) {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")).version;
}

/** A `fetch` that counts. */
function counting() {
  const own = globalThis.fetch;
  const counted = async (input, more) => {
    counted.requests += 1;
    return own(input, more);
  };
  counted.requests = 0;
  return counted;
}

/** Tells a line of the table in README.md. */
const row = (name, way, requests, result) =>
  console.log(`row \`${name}\` (Node) | ${version(name)} | ${way} | ${requests} | ${result}`);

/** Fails unless this answer was paid for, and charged exactly, as its key sees it. Returns what it cost. */
async function assertPaid(response, paidNano) {
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  const { usage } = await response.json();
  const left = paidNano - costNano(usage.prompt_tokens, usage.completion_tokens);
  await assertBalance(response.headers.get("farthing-key"), left);
}

const mppx = (account, counted) => {
  const method = evm.charge({ account, currencies: [evm.assets.baseSepolia.USDC], maxAmount: "0.05", networks: [CHAIN_ID] });
  return Mppx.create({ methods: [method], polyfill: false, fetch: counted });
};

async function oneForAll() {
  const { answer, lines, challenges, body } = await challenged(url, init());
  assert.match(lines[0], /^L402 /, "whoever reads one line only reads L402");
  assert.ok(lines.slice(1).every((line) => line.startsWith("Payment ")));
  of(challenges, "evm", "charge");
  assert.equal(challenges.at(-1).method, "credit", "what takes no payment stands last");

  const v2 = JSON.parse(Buffer.from(header(answer, "payment-required"), "base64"));
  assert.equal(v2.x402Version, 2);
  assert.ok(v2.accepts.some(({ scheme, network }) => scheme === "exact" && network === NETWORK));
  assert.equal(body.x402Version, 1);
  assert.ok(body.accepts.some(({ scheme, network }) => scheme === "exact" && network === "base-sepolia"));
  assert.equal(body.type, "https://paymentauth.org/problems/payment-required");
  assert.deepEqual([body.error.type, typeof body.error.message], ["payment_required", "string"]);
  const exposed = answer.lines.filter(([name]) => name === "access-control-expose-headers").map(([, value]) => value.toLowerCase()).join();
  for (const name of ["www-authenticate", "payment-required", "payment-receipt", "payment-response", "retry-after"]) {
    assert.ok(exposed.includes(name), `${name} is not exposed: ${exposed}`);
  }
}

async function paysMppx() {
  const account = clientPayer(25);
  const counted = counting();
  const before = await moved(account);
  const response = await mppx(account, counted).fetch(url, init());
  assertReceipt(response.clone(), "evm");
  assert.equal(await moved(account), before + 1);
  const [{ args }] = await transfers(chain, account.address, payTo);
  await assertPaid(response, args.value * NANO_PER_ATOMIC);
  row("mppx", "Payment: `evm`, `charge`", counted.requests, "200, one transfer on the chain");
}

async function paysX402Fetch() {
  const account = clientPayer(26);
  const counted = counting();
  const pay = wrapFetchWithPaymentFromConfig(counted, { schemes: [{ network: NETWORK, client: new ExactEvmScheme(account) }] });
  const response = await pay(url, init());
  assert.ok(response.headers.get("payment-response"));
  const [{ args }, ...more] = await transfers(chain, account.address, payTo);
  assert.deepEqual(more, []);
  await assertPaid(response, args.value * NANO_PER_ATOMIC);
  row("@x402/fetch", "x402 version 2: `exact`", counted.requests, "200, one transfer on the chain");
}

async function paysFetch402() {
  const counted = counting();
  const before = (await payments()).length;
  const wallet = { payInvoice: async ({ invoice }) => ({ preimage: await payInvoice(invoice) }) };
  const own = globalThis.fetch;
  let response;
  try {
    // It takes the one that is there.
    globalThis.fetch = (input, more) => (input === url ? counted(input, more) : own(input, more));
    response = await fetch402(url, init(), { wallet });
  } finally {
    globalThis.fetch = own;
  }
  const made = (await payments()).slice(before);
  assert.equal(made.length, 1);
  // A satoshi is a tenth of a cent here.
  await assertPaid(response, BigInt(made[0].msat) * 1000n);
  row("@getalby/lightning-tools", "L402 (`fetch402`)", counted.requests, "200, one invoice paid");
}

async function spendsCredit() {
  const key = env("FARTHING_KEY");
  const [counted, before] = [counting(), await balanceNano(key)];
  const sdk = new OpenAI({ baseURL: `${env("GATEWAY_URL")}/v1`, apiKey: key, fetch: counted });
  const { usage } = await sdk.chat.completions.create(JSON.parse(init().body));
  await assertBalance(key, before - costNano(usage.prompt_tokens, usage.completion_tokens));
  row("openai", "a credit key, as its API key", counted.requests, "200, the balance drawn on");
}

async function twoAreTooMany() {
  const account = clientPayer(27);
  const hits = await upstreamHits();
  const { challenge } = await unpaid(init());
  const signer = new x402Client().register(NETWORK, new ExactEvmScheme(account));
  const x402 = new x402HTTPClient(signer).encodePaymentSignatureHeader(await signer.createPaymentPayload(challenge));
  const payment = await mppx(account, fetch).createCredential(await fetch(url, init()));
  const other = await mppx(account, fetch).createCredential(await fetch(url, init()));
  const bought = await l402Challenged(url, init());
  const l402 = credential({ token: bought.token, preimage: await payInvoice(bought.invoice) });

  const send = (headers) => fetch(url, { ...init(), headers: { ...init().headers, ...headers } });
  const pairs = [
    { authorization: payment, ...x402 },
    { authorization: l402, ...x402 },
    { authorization: l402, "payment-authorization": payment },
    { authorization: payment, "payment-authorization": other },
  ];
  for (const headers of pairs) {
    const response = await send(headers);
    const body = await response.json();
    const names = Object.keys(headers).join(" + ");
    assert.deepEqual([response.status, body.error.code, body.error.money], [400, "ambiguous_credentials", "nothing_taken"], names);
    assert.equal(response.headers.get("www-authenticate"), null);
  }
  assert.deepEqual([await upstreamHits(), await moved(account)], [hits, 0]);
  // Nothing was claimed: each of them is still good.
  for (const headers of [{ authorization: payment }, x402, { authorization: l402 }]) {
    const response = await send(headers);
    assert.equal(response.status, 200, response.ok ? "" : await response.text());
  }
  assert.deepEqual([await upstreamHits(), await moved(account)], [hits + 3, 2]);
}

await run({
  "one-402-for-all": oneForAll,
  "mppx-pays": paysMppx,
  "x402-fetch-pays": paysX402Fetch,
  "fetch402-pays": paysFetch402,
  "openai-spends-credit": spendsCredit,
  "two-payments-are-400": twoAreTooMany,
});
