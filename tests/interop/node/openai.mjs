// The unmodified OpenAI SDK for Node: only base URL and key differ from its defaults.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { assertBalance, assertCharged, balanceNano, breakingLine, costNano, env, nano, run, upstreamHits } from "./harness.mjs";

const key = env("FARTHING_KEY");
const sdk = (apiKey) => new OpenAI({ baseURL: `${env("GATEWAY_URL")}/v1`, apiKey });
const client = sdk(key);
const chat = { model: "gpt-play", messages: [{ role: "user", content: "Say something short." }], max_tokens: 64 };
const response = { model: "gpt-play", input: "Say something short.", max_output_tokens: 64 };

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const text = (chunks) => chunks.map((c) => c.choices[0]?.delta?.content ?? "").join("");

await run({
  async chat() {
    const before = await balanceNano(key);
    const answer = await client.chat.completions.create(chat);
    assert.ok(answer.choices[0].message.content.length > 0);
    await assertBalance(key, before - costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens));
  },

  async "chat-stream"() {
    const before = await balanceNano(key);
    const chunks = await collect(await client.chat.completions.create({ ...chat, stream: true }));
    assert.ok(text(chunks).length > 0);
    assert.equal(chunks.at(-1).choices[0]?.finish_reason, "stop", "the last chunk visible is the one that finishes");
    assert.ok(chunks.every((c) => c.usage == null && c.choices.length > 0), "a usage chunk nobody asked for");
    await assertCharged(key, before);
  },

  async "chat-stream-usage"() {
    const before = await balanceNano(key);
    const options = { include_usage: true };
    const chunks = await collect(
      await client.chat.completions.create({ ...chat, stream: true, stream_options: options }),
    );
    assert.ok(text(chunks).length > 0);
    const last = chunks.at(-1);
    assert.equal(last.choices.length, 0);
    assert.ok(last.usage.completion_tokens > 0);
    await assertBalance(key, before - costNano(last.usage.prompt_tokens, last.usage.completion_tokens));
  },

  async responses() {
    const before = await balanceNano(key);
    const answer = await client.responses.create(response);
    assert.ok(answer.output_text.length > 0);
    await assertBalance(key, before - costNano(answer.usage.input_tokens, answer.usage.output_tokens));
  },

  async "responses-stream"() {
    const before = await balanceNano(key);
    const events = await collect(await client.responses.create({ ...response, stream: true }));
    const deltas = events.filter((e) => e.type === "response.output_text.delta").map((e) => e.delta);
    assert.ok(deltas.join("").length > 0);
    const last = events.at(-1);
    assert.equal(last.type, "response.completed");
    const { input_tokens, output_tokens } = last.response.usage;
    await assertBalance(key, before - costNano(input_tokens, output_tokens));
  },

  async "empty-balance"() {
    const hits = await upstreamHits();
    const empty = sdk(env("FARTHING_EMPTY_KEY"));
    const calls = [
      () => empty.chat.completions.create(chat),
      () => empty.chat.completions.create({ ...chat, stream: true }),
      () => empty.responses.create(response),
    ];
    for (const call of calls) {
      await assert.rejects(call, (error) => {
        assert.ok(error instanceof OpenAI.APIError, `${error}`);
        assert.equal(error.status, 402);
        assert.equal(error.code, "insufficient_balance");
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
    const answer = await new OpenAI({ baseURL: `${line.url}/v1`, apiKey: key }).chat.completions.create(chat);
    line.close();
    assert.ok(answer.choices[0].message.content.length > 0);
    assert.deepEqual(line.tries, ["0", "1"]);
    assert.equal(await upstreamHits(), hits + 1, "the retry was another call");
    await assertBalance(key, before - costNano(answer.usage.prompt_tokens, answer.usage.completion_tokens));
  },

  async "stream-outlives-balance"() {
    const spent = async (small, note, before) => {
      assert.equal(note.code, "insufficient_balance");
      assert.equal(await balanceNano(small), before - nano(note.charged.amount));
    };
    const { model, messages } = chat;
    let small = env("FARTHING_SMALL_KEY");
    let before = await balanceNano(small);
    const chunks = await collect(await sdk(small).chat.completions.create({ model, messages, stream: true }));
    assert.ok(text(chunks).length > 0, "the text that was paid for is lost");
    const last = chunks.at(-1);
    assert.equal(last.choices[0].finish_reason, "length");
    await spent(small, last.farthing, before);

    small = env("FARTHING_SMALL_KEY_TOO");
    before = await balanceNano(small);
    const asked = { model, input: response.input, stream: true };
    const end = (await collect(await sdk(small).responses.create(asked))).at(-1);
    assert.equal(end.type, "response.incomplete");
    assert.equal(end.response.incomplete_details.reason, "max_output_tokens");
    await spent(small, end.farthing, before);
  },
});
