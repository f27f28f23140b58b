// The unmodified SDKs of OpenAI and Anthropic for Node, with a paid L402 token as their API key: one payment, and no
// other difference to any other key.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { call } from "./calls.mjs";
import { assertBalance, costNano, env, run, upstreamHits } from "./harness.mjs";
import { bought, creditNano, credential, payments, wrapped } from "./l402.mjs";

const chat = JSON.parse(call("Say something short.").body);
const paid = { payment: undefined, left: 0n };

async function openai() {
  const payment = await bought();
  const before = (await payments()).length;
  const sdk = new OpenAI({ baseURL: `${env("GATEWAY_URL")}/v1`, apiKey: wrapped(payment) });
  const plain = await sdk.chat.completions.create(chat);
  let left = creditNano(payment.token) - costNano(plain.usage.prompt_tokens, plain.usage.completion_tokens);
  await assertBalance(wrapped(payment), left);

  const stream = await sdk.chat.completions.create({ ...chat, stream: true, stream_options: { include_usage: true } });
  let last;
  for await (const chunk of stream) last = chunk;
  left -= costNano(last.usage.prompt_tokens, last.usage.completion_tokens);
  // Whatever form it is shown in, it is the same money.
  await assertBalance(credential(payment), left);
  assert.equal((await payments()).length, before);
  Object.assign(paid, { payment, left });
}

async function anthropic() {
  const sdk = new Anthropic({ baseURL: env("GATEWAY_URL"), apiKey: wrapped(paid.payment) });
  const { usage } = await sdk.messages.create({ ...chat, model: "claude-play" });
  paid.left -= costNano(usage.input_tokens, usage.output_tokens);
  await assertBalance(wrapped(paid.payment), paid.left);
}

async function spent() {
  const sdk = new OpenAI({ baseURL: `${env("GATEWAY_URL")}/v1`, apiKey: wrapped(paid.payment) });
  const messages = [{ role: "user", content: "more ".repeat(400) }];
  let hits;
  const useUp = async () => {
    for (let calls = 0; calls < 20; calls += 1) {
      hits = await upstreamHits();
      await sdk.chat.completions.create({ ...chat, messages });
    }
  };
  await assert.rejects(useUp, (error) => {
    assert.ok(error instanceof OpenAI.APIError, `${error}`);
    assert.deepEqual([error.status, error.code], [402, "insufficient_balance"]);
    return true;
  });
  assert.equal(await upstreamHits(), hits, "an unpaid call reached the upstream");
}

await run({
  "wrapped-token-as-api-key": openai,
  "wrapped-token-as-anthropic-key": anthropic,
  "wrapped-token-is-spent": spent,
});
