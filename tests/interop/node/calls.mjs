// What clients ask, whatever they pay with, and how an answer is looked at.
import assert from "node:assert/strict";
import { env } from "./harness.mjs";

export const url = `${env("GATEWAY_URL")}/v1/chat/completions`;

/** A request for a chat completion. */
export const call = (content, more = {}) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ model: "gpt-play", max_tokens: 64, messages: [{ role: "user", content }], ...more }),
});
export const streamed = { stream: true, stream_options: { include_usage: true } };
export const withKey = (key, init) => ({ ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } });

/** Reads a streamed chat completion: its text, its usage, and for how long output kept arriving. */
export async function readStream(body) {
  const decoder = new TextDecoder();
  const arrivals = [];
  let text = "";
  for await (const bytes of body) {
    arrivals.push(performance.now());
    text += decoder.decode(bytes, { stream: true });
  }
  const data = text.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
  assert.equal(data.at(-1), "[DONE]");
  const chunks = data.slice(0, -1).map((line) => JSON.parse(line));
  return {
    text: chunks.map((c) => c.choices[0]?.delta?.content ?? "").join(""),
    usage: chunks.at(-1).usage,
    reads: arrivals.length,
    ms: arrivals.at(-1) - arrivals[0],
  };
}

/** Fails unless output arrived as the upstream sends it: a gateway that gathers it first hands it over at once. */
export async function assertStreamed(answer, init) {
  const direct = await readStream((await fetch(`${env("UPSTREAM_URL")}/v1/chat/completions`, init)).body);
  assert.ok(direct.ms >= 20, `the mock upstream streams for ${direct.ms} ms only: too short to tell`);
  assert.ok(answer.text.length > 0);
  assert.ok(answer.reads > 1, "the answer came in one piece");
  // Not held against the upstream's own time: a machine that stands still for a moment makes one longer or the other shorter.
  assert.ok(answer.ms >= 20, `output arrived within ${answer.ms} ms, from the upstream in ${direct.ms} ms`);
}
