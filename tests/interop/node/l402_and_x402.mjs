// One gateway, two ways to pay: each client finds its own, and what one pays is nothing to the other.
import assert from "node:assert/strict";
import { fetch402 } from "@getalby/lightning-tools/402";
import { ExactEvmScheme } from "@x402/evm";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { NETWORK, clientPayer, transfers } from "../chain/chain.mjs";
import { assertBalance, costNano, run } from "./harness.mjs";
import { assertPaidCall, challenged, creditNano, header, payInvoice, payments } from "./l402.mjs";
import { NANO_PER_ATOMIC, call, chain, payTo, unpaid, url } from "./x402.mjs";

const account = clientPayer(5);
const moved = async () => (await transfers(chain, account.address, payTo)).length;

async function oneChallenge() {
  const { answer } = await challenged(url, call("What do you take?"));
  const lines = answer.lines.filter(([name]) => name === "www-authenticate").map(([, value]) => value);
  assert.ok(lines.slice(1).every((line) => !/^(L402|LSAT) /.test(line)), `${lines.length} lines`);
  assert.ok(header(answer, "payment-required"), "no offer for the chain");
  assert.ok(JSON.parse(answer.body).accepts.length > 0, "no offer for version 1");
}

async function lightning() {
  const [before, transfersBefore] = [(await payments()).length, await moved()];
  const wallet = { payInvoice: async ({ invoice }) => ({ preimage: await payInvoice(invoice) }) };
  const response = await fetch402(url, call("Over Lightning."), { wallet });
  const { value } = response.payment.credentials;
  await assertPaidCall(response, value, creditNano(/^L402 ([^:]+):/.exec(value)[1]));
  assert.deepEqual([(await payments()).length, await moved()], [before + 1, transfersBefore]);
}

async function onTheChain() {
  const init = call("On the chain.");
  const { offer } = await unpaid(init);
  const [before, transfersBefore] = [(await payments()).length, await moved()];
  const pay = wrapFetchWithPaymentFromConfig(fetch, { schemes: [{ network: NETWORK, client: new ExactEvmScheme(account) }] });
  const response = await pay(url, init);
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  const { usage } = await response.json();
  const cost = costNano(usage.prompt_tokens, usage.completion_tokens);
  await assertBalance(response.headers.get("farthing-key"), BigInt(offer.amount) * NANO_PER_ATOMIC - cost);
  assert.deepEqual([(await payments()).length, await moved()], [before, transfersBefore + 1]);
}

await run({
  "lightning-stands-first": oneChallenge,
  "fetch402-pays-over-lightning": lightning,
  "x402-fetch-pays-on-the-chain": onTheChain,
});
