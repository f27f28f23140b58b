// The unmodified npm package `macaroon` narrows our credit keys, and reads and narrows those that `farthing key
// attenuate` made: a sub-agent in JavaScript needs nothing of ours.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { importMacaroon } from "macaroon";
import { call, url, withKey } from "./calls.mjs";
import { assertBalance, balanceNano, costNano, env, run, upstreamHits } from "./harness.mjs";

const PREFIX = "fk_test_";
const key = env("FARTHING_KEY");
const now = () => Math.floor(Date.now() / 1000);

/** What the key's account holds: amounts in its caveats must be in it. */
async function asset() {
  const answer = await fetch(`${env("GATEWAY_URL")}/farthing/balance`, { headers: { authorization: `Bearer ${key}` } });
  return (await answer.json()).balance.currency;
}

const read = (text) => importMacaroon(text.slice(PREFIX.length));
const caveats = (text) => read(text).caveats.map((caveat) => Buffer.from(caveat.identifier).toString());

/** A weaker key, by the foreign library alone. */
function narrowed(text, ...more) {
  const macaroon = read(text);
  for (const caveat of more) macaroon.addFirstPartyCaveat(caveat);
  return PREFIX + Buffer.from(macaroon.exportBinary()).toString("base64url");
}

/** A weaker key, by our command, which has nothing but the key. */
const attenuated = (text, ...words) =>
  execFileSync(env("FARTHING_BIN"), ["key", "attenuate", ...words], { input: text, env: {}, stdio: ["pipe", "pipe", "inherit"] })
    .toString()
    .trim();

const ask = (text) => fetch(url, withKey(text, call("May I?")));

async function served(text) {
  const before = await balanceNano(key);
  const response = await ask(text);
  const body = await response.text();
  assert.equal(response.status, 200, body);
  const { usage } = JSON.parse(body);
  await assertBalance(key, before - costNano(usage.prompt_tokens, usage.completion_tokens));
}

async function refused(text, status, code) {
  const hits = await upstreamHits();
  const response = await ask(text);
  const body = await response.json();
  assert.deepEqual([response.status, body.code], [status, code], JSON.stringify(body));
  assert.equal(await upstreamHits(), hits);
}

await run({
  async "macaroon-narrows-our-key"() {
    assert.deepEqual(caveats(key), []);
    const child = narrowed(key, `expires=${now() + 600}`, `budget=js:${await asset()}:900000000`);
    await served(child);
    await refused(narrowed(key, "routes=other"), 403, "key_forbidden");
    await refused(narrowed(child, "models=gpt-9"), 403, "key_forbidden");
    await refused(narrowed(child, `expires=${now() - 1}`), 401, "key_expired");
  },

  async "macaroon-narrows-what-we-narrowed"() {
    // Short: this library cannot write tokens of much more than 200 bytes.
    const child = attenuated(key, "--models", "gpt-*", "--budget", `m=0.5 ${await asset()}`);
    const [models] = caveats(child).filter((caveat) => caveat.startsWith("models="));
    assert.equal(models, "models=gpt-*");
    assert.equal(caveats(child).length, 2);
    await served(narrowed(child, "models=gpt-play"));
    await refused(narrowed(child, "models=other"), 401, "key_unknown");
  },

  async "we-narrow-what-macaroon-narrowed"() {
    const child = narrowed(key, "models=gpt-*", `expires=${now() + 600}`);
    const grandchild = attenuated(child, "--models", "gpt-play", "--max-call", `0.01 ${await asset()}`);
    assert.deepEqual(caveats(grandchild).slice(0, 2), caveats(child));
    await served(grandchild);
    assert.throws(() => attenuated(child, "--models", "*"), (error) => error.status === 2);
  },

  async "macaroon-spends-the-budget-above"() {
    // Enough for nothing at the parent, whatever a child grants itself.
    const parent = attenuated(key, "--budget", `0.000001 ${await asset()}`);
    await refused(narrowed(parent, `budget=more:${await asset()}:900000000`), 402, "over_token_budget");
  },

  async "macaroon-cannot-widen-or-forge"() {
    const child = attenuated(key, "--models", "other-*");
    await refused(narrowed(child, "models=gpt-*"), 401, "key_unknown");
    await refused(narrowed(key, "colour=blue"), 401, "key_unknown");
    // The parent's signature is not in the child: taking the caveat off leaves a chain that does not end there.
    const bytes = Buffer.from(child.slice(PREFIX.length), "base64url");
    const whole = Buffer.from(key.slice(PREFIX.length), "base64url");
    const cut = Buffer.concat([whole.subarray(0, whole.length - 32), bytes.subarray(bytes.length - 32)]);
    await refused(PREFIX + cut.toString("base64url"), 401, "key_unknown");
  },
});
