// The unmodified Anthropic SDK for Node: only base URL and key differ from its defaults.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { assertBalance, balanceNano, breakingLine, costNano, env, run, upstreamHits } from "./harness.mjs";

const key = env("FARTHING_KEY");
const sdk = (apiKey) => new Anthropic({ baseURL: env("GATEWAY_URL"), apiKey });
const client = sdk(key);
const request = {
  model: "claude-play",
  max_tokens: 64,
  messages: [{ role: "user", content: "Say something short." }],
};

const text = (message) => message.content.map((block) => block.text ?? "").join("");

await run({
  async messages() {
    const before = await balanceNano(key);
    const answer = await client.messages.create(request);
    assert.ok(text(answer).length > 0);
    await assertBalance(key, before - costNano(answer.usage.input_tokens, answer.usage.output_tokens));
  },

  async "messages-stream"() {
    const before = await balanceNano(key);
    const stream = client.messages.stream(request);
    let deltas = 0;
    stream.on("text", () => (deltas += 1));
    const answer = await stream.finalMessage();
    assert.ok(deltas > 1, `${deltas} text events`);
    assert.ok(text(answer).length > 0);
    assert.ok(answer.stop_reason);
    await assertBalance(key, before - costNano(answer.usage.input_tokens, answer.usage.output_tokens));
  },

  async "empty-balance"() {
    const hits = await upstreamHits();
    const empty = sdk(env("FARTHING_EMPTY_KEY"));
    for (const call of [() => empty.messages.create(request), () => empty.messages.stream(request).finalMessage()]) {
      await assert.rejects(call, (error) => {
        assert.ok(error instanceof Anthropic.APIError, `${error}`);
        assert.equal(error.status, 402);
        assert.equal(error.error.error.type, "billing_error");
        assert.equal(error.error.error.details.error_code, "insufficient_balance");
        assert.match(error.message, /balance/i);
        return true;
      });
    }
    assert.equal(await upstreamHits(), hits, "an unpaid call reached the upstream");
  },

  async "lost-answer"() {
    const before = await balanceNano(key);
    const hits = await upstreamHits();
    const line = await breakingLine();
    const answer = await new Anthropic({ baseURL: line.url, apiKey: key }).messages.create(request);
    line.close();
    assert.ok(text(answer).length > 0);
    assert.deepEqual(line.tries, ["0", "1"]);
    assert.equal(await upstreamHits(), hits + 1, "the retry was another call");
    await assertBalance(key, before - costNano(answer.usage.input_tokens, answer.usage.output_tokens));
  },
});
