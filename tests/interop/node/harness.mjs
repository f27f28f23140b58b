// Runs the scenarios of one client and tells their outcome, one line each: `pass NAME` or
// `fail NAME reason`. Plus what all clients assert about money.
import assert from "node:assert/strict";
import http from "node:http";

export const env = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

/** Far more than any takes: it ends one that hangs. */
const SCENARIO_MS_MAX = 120_000;

/** Runs those of `scenarios` (name -> async function) that the arguments name, in order; all without arguments. */
export async function run(scenarios) {
  const wanted = process.argv.slice(2);
  for (const [name, scenario] of Object.entries(scenarios)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    try {
      await bounded(scenario());
      console.log(`pass ${name}`);
    } catch (error) {
      console.error(`--- ${name}`, error);
      console.log(`fail ${name} ${String(error?.message ?? error).split("\n").join(" ")}`);
    }
  }
  // A client may keep sockets open; everything is told.
  process.exit(0);
}

function bounded(work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${SCENARIO_MS_MAX} ms`)), SCENARIO_MS_MAX);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** Completions the upstream has served so far. */
export async function upstreamHits() {
  const answer = await fetch(`${env("UPSTREAM_URL")}/__hits`);
  return (await answer.json()).requests;
}

/** The header that shows a credit key, or that credential itself (`L402 ...`). */
export const authorization = (key) => (key.includes(" ") ? key : `Bearer ${key}`);

/**
 * The balance of a credit key, or of another credential, in billionths of a dollar, once no call of it is open any
 * more: a stream is captured when the upstream ends it, which an SDK that stops at `[DONE]` does not wait for.
 */
export async function balanceNano(key) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const answer = await fetch(`${env("GATEWAY_URL")}/farthing/balance`, { headers: { authorization: authorization(key) } });
    assert.equal(answer.status, 200, "GET /farthing/balance");
    const body = await answer.json();
    if (nano(body.held.amount) === 0n) return nano(body.balance.amount);
    if (Date.now() > deadline) assert.fail(`a hold stays open: ${JSON.stringify(body)}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/**
 * "0.0021" -> 2100000n. Decimal text only: a number would already have been rounded. Below zero is who was served on a
 * promise (`upto`) that is not settled yet.
 */
export function nano(decimal) {
  const parts = /^(-?)(\d+)(?:\.(\d{1,9}))?$/.exec(decimal);
  assert.ok(parts, `amount ${JSON.stringify(decimal)} is no decimal text`);
  const amount = BigInt(parts[2]) * 1_000_000_000n + BigInt((parts[3] ?? "").padEnd(9, "0"));
  return parts[1] ? -amount : amount;
}

/** What a call costs at the prices of the gateway under test: 1 and 4 USD per million tokens. */
export const costNano = (input, output) => BigInt(input) * 1000n + BigInt(output) * 4000n;

/** Waits until the balance is what it should be: a stream is captured just after its last byte. */
export async function assertBalance(key, expected) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const balance = await balanceNano(key);
    if (balance === expected) return;
    if (Date.now() > deadline) assert.fail(`balance ${balance} nano-USD, expected ${expected}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Waits until the balance is below `before`, and above `floor`: a hold still open does not count as a charge. */
export async function assertCharged(key, before, floor = 0n) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const balance = await balanceNano(key);
    if (balance < before && balance > floor) return;
    if (Date.now() > deadline) assert.fail(`balance ${balance} nano-USD, expected above ${floor} and below ${before}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/**
 * A way to the gateway that breaks once, when the first answer is there. The gateway has then done and charged
 * everything; only the client does not know. (Of a body that breaks off these SDKs do not try again.) `tries` is
 * what the client says of itself.
 */
export async function breakingLine() {
  const tries = [];
  const gateway = new URL(env("GATEWAY_URL"));
  const server = http.createServer(async (request, response) => {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    tries.push(request.headers["x-stainless-retry-count"]);
    const { host, connection, ...headers } = request.headers;
    const carried = http.request(new URL(request.url, gateway), { method: request.method, headers, agent: false }, async (answer) => {
      const body = [];
      for await (const piece of answer) body.push(piece);
      if (tries.length === 1) return request.socket.destroy();
      response.writeHead(answer.statusCode, answer.headers);
      response.end(Buffer.concat(body));
    });
    carried.end(Buffer.concat(pieces));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, tries, close: () => server.close() };
}
