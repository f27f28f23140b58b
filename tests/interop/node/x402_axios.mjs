// The unmodified @x402/axios pays for calls, streamed and not.
import assert from "node:assert/strict";
import axios from "axios";
import { decodePaymentResponseHeader, wrapAxiosWithPaymentFromConfig } from "@x402/axios";
import { ExactEvmScheme } from "@x402/evm";
import { getAddress } from "viem";
import { NETWORK, clientPayer, transfers } from "../chain/chain.mjs";
import { assertBalance, costNano, run, upstreamHits } from "./harness.mjs";
import { NANO_PER_ATOMIC, assertMoved, assertStreamed, call, chain, payTo, readStream, streamed, unpaid, url } from "./x402.mjs";

const account = clientPayer(0);
const api = wrapAxiosWithPaymentFromConfig(axios.create({ proxy: false }), {
  schemes: [{ network: NETWORK, client: new ExactEvmScheme(account) }],
});

/** What is left of the payments so far, in billionths of a dollar: they all go to one account. */
let left = 0n;

/** Pays for one call and checks what moved; `read` gets the usage out of the answer. */
async function paid(init, options, read) {
  const { offer } = await unpaid(init);
  const [hits, moved] = [await upstreamHits(), (await transfers(chain, account.address, payTo)).length];
  const response = await api.post(url, init.body, { headers: init.headers, ...options });
  assert.equal(response.status, 200);
  const answer = await read(response.data);
  assert.equal(await upstreamHits(), hits + 1);

  const settled = decodePaymentResponseHeader(response.headers["payment-response"]);
  assert.deepEqual([settled.success, settled.network, getAddress(settled.payer)], [true, NETWORK, account.address]);
  await assertMoved(settled.transaction, account.address, BigInt(offer.amount));
  assert.equal((await transfers(chain, account.address, payTo)).length, moved + 1);
  left += BigInt(offer.amount) * NANO_PER_ATOMIC;
  left -= costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens);
  await assertBalance(response.headers["farthing-key"], left);
  return answer;
}

await run({
  async "pays"() {
    await paid(call("By another client."), {}, async (data) => data);
  },

  async "pays-and-streams"() {
    const init = call("By another client, word by word.", streamed);
    await assertStreamed(await paid(init, { responseType: "stream" }, readStream), init);
  },
});
