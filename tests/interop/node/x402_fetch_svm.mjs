// The unmodified @x402/fetch pays on Solana, on a local machine that runs the real token program.
import assert from "node:assert/strict";
import { createSolanaRpc } from "@solana/kit";
import { TOKEN_PROGRAM_ADDRESS, findAssociatedTokenPda } from "@solana-program/token";
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { ExactSvmScheme } from "@x402/svm/exact/client";
import { DEVNET, FEE_PAYER, MINT, PAYER, SELLER, keyPair } from "../chain/solana.mjs";
import { assertBalance, costNano, env, run, upstreamHits } from "./harness.mjs";
import { NANO_PER_ATOMIC, assertStreamed, call, challenged, facilitatorCalls, readStream, streamed, url } from "./x402.mjs";

const [payer, seller, feePayer] = await Promise.all([PAYER, SELLER, FEE_PAYER].map(keyPair));
const rpcUrl = env("SOLANA_RPC_URL");
const rpc = createSolanaRpc(rpcUrl);
const pay = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [{ network: DEVNET, client: new ExactSvmScheme(payer, { rpcUrl }) }],
});

/** What an owner has of the token, in atomic units. */
async function tokens(owner) {
  const [account] = await findAssociatedTokenPda({ mint: MINT, owner, tokenProgram: TOKEN_PROGRAM_ADDRESS });
  const { value } = await rpc.getTokenAccountBalance(account).send();
  return BigInt(value.amount);
}

/** What is left of the payments so far, in billionths of a dollar. */
let left = 0n;

/** Pays for one call and checks what moved; `read` gets the usage out of the answer. */
async function paid(init, read) {
  const offers = (await challenged(init)).challenge.accepts;
  const offer = offers.find((o) => o.network === DEVNET && o.scheme === "exact");
  assert.deepEqual([offer.asset, offer.payTo, offer.extra.feePayer], [MINT, seller.address, feePayer.address]);
  const [hits, asked] = [await upstreamHits(), (await facilitatorCalls()).length];
  const [had, got] = [await tokens(payer.address), await tokens(seller.address)];

  const response = await pay(url, init);
  assert.equal(response.status, 200, response.ok ? "" : await response.clone().text());
  const settled = decodePaymentResponseHeader(response.headers.get("payment-response"));
  const answer = await read(response);
  assert.equal(await upstreamHits(), hits + 1);
  assert.deepEqual([settled.success, settled.network, settled.payer], [true, DEVNET, payer.address]);
  const { value } = await rpc.getSignatureStatuses([settled.transaction]).send();
  assert.equal(value[0].err, null);
  assert.equal((await facilitatorCalls(asked)).filter((c) => c.op === "settle").length, 1);

  const amount = BigInt(offer.amount);
  assert.deepEqual([await tokens(payer.address), await tokens(seller.address)], [had - amount, got + amount]);
  left += amount * NANO_PER_ATOMIC - costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
  await assertBalance(response.headers.get("farthing-key"), left);
  return answer;
}

await run({
  async "solana-pays"() {
    await paid(call("On another chain."), (response) => response.json());
  },

  async "solana-pays-and-streams"() {
    const init = call("On another chain, word by word.", streamed);
    await assertStreamed(await paid(init, (response) => readStream(response.body)), init);
  },
});
