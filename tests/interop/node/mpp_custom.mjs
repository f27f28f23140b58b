// mppx with methods of ours: it takes them as it takes its own, and the gateway hears what it prefers.
import assert from "node:assert/strict";
import { Mppx, evm } from "mppx/client";
import { CHAIN_ID, clientPayer, transfers } from "../chain/chain.mjs";
import { assertStreamed, call, readStream, streamed, url } from "./calls.mjs";
import { assertBalance, balanceNano, costNano, env, run, upstreamHits } from "./harness.mjs";
import { assertReceipt, challenged } from "./mpp.mjs";
import { credit } from "./mpp_methods.mjs";
import { chain, payTo } from "./x402.mjs";

const account = clientPayer(29);
const onChain = () => evm.charge({ account, currencies: [evm.assets.baseSepolia.USDC], maxAmount: "0.05", networks: [CHAIN_ID] });

/** A client with these methods that counts what it sends. */
function client(methods, more = {}) {
  const sent = [];
  const looking = async (input, init) => {
    sent.push(new Headers(init.headers).get("accept-payment"));
    return fetch(input, init);
  };
  return { sent, mppx: Mppx.create({ methods, polyfill: false, fetch: looking, ...more }) };
}

async function creditSpends() {
  const key = env("FARTHING_KEY");
  const [before, hits] = [await balanceNano(key), await upstreamHits()];
  const { mppx, sent } = client([credit(key)]);
  const response = await mppx.fetch(url, call("On credit."));
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  assert.deepEqual(sent, ["credit/session", "credit/session"]);
  assertReceipt(response, "credit", "session");
  assert.equal(response.headers.get("farthing-key"), null, "a second key for one account");
  const { usage } = await response.json();
  await assertBalance(key, before - costNano(usage.prompt_tokens, usage.completion_tokens));
  assert.equal(await upstreamHits(), hits + 1);
}

async function creditStreams() {
  const key = env("FARTHING_KEY");
  const before = await balanceNano(key);
  const init = call("On credit, word by word.", streamed);
  const response = await client([credit(key)]).mppx.fetch(url, call("On credit, word by word.", streamed));
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  assertReceipt(response, "credit", "session");
  const answer = await readStream(response.body);
  await assertStreamed(answer, init);
  await assertBalance(key, before - costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens));
}

/** It tries as often as the package tries, and no call comes of it. */
async function emptyKeyIsRefused() {
  const hits = await upstreamHits();
  for (const key of [env("FARTHING_EMPTY_KEY"), `${env("FARTHING_EMPTY_KEY").slice(0, -4)}AAAA`]) {
    const { mppx, sent } = client([credit(key)]);
    const response = await mppx.fetch(url, call("On nothing."));
    assert.ok([401, 402].includes(response.status), `${response.status}`);
    assert.ok(sent.length <= 4, `${sent.length} requests`);
  }
  assert.equal(await upstreamHits(), hits);
}

async function preferenceDecides() {
  const moved = async () => (await transfers(chain, account.address, payTo)).length;
  const before = await moved();
  const methods = () => [onChain(), credit(env("FARTHING_KEY"))];
  const rows = [
    ["evm/charge, credit/session", {}, "evm"],
    ["evm/charge;q=0.5, credit/session", { "evm/charge": 0.5 }, "credit"],
    ["evm/charge;q=0, credit/session", { "evm/charge": 0 }, "credit"],
    ["evm/charge, credit/session;q=0", { "credit/session": 0 }, "evm"],
  ];
  for (const [header, paymentPreferences, method] of rows) {
    const { challenges } = await challenged(url, call("Which one?"), { "accept-payment": header });
    assert.equal(challenges[0].method, method, `${header}: ${challenges.map((c) => c.method)}`);
    const { mppx, sent } = client(methods(), { paymentPreferences });
    const response = await mppx.fetch(url, call("Which one?"));
    assert.equal(response.status, 200, response.ok ? "" : await response.text());
    assert.equal(sent[0], header);
    assertReceipt(response, method, method === "credit" ? "session" : "charge");
  }
  assert.equal(await moved(), before + 2);
}

await run({
  "credit-method-spends-a-key": creditSpends,
  "credit-method-streams": creditStreams,
  "credit-method-of-no-use-is-refused": emptyKeyIsRefused,
  "accept-payment-decides": preferenceDecides,
});
