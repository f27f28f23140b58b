// What all clients that pay by the Payment scheme ask and look at here, whatever method they pay with.
import assert from "node:assert/strict";
import http from "node:http";
import { Challenge, Credential, Receipt } from "mppx";
import { env, upstreamHits } from "./harness.mjs";
import { header, send } from "./l402.mjs";

export { Challenge, Credential, Receipt };

/** What all headers of a 402 may take together: more is refused by what stands between. */
const HEADERS_BYTES_MAX = 8 * 1024;

/** A call that costs the same whatever it uses, of an upstream that the script is itself. */
export const fragileUrl = `${env("GATEWAY_URL")}/fragile`;
/** What a call of a route with a fixed price costs, in billionths of a dollar. */
export const FIXED_NANO = 3_000_000n;

/** The lines of the 402 to an unpaid call, its challenges of the Payment scheme as mppx reads them, and its body. */
export async function challenged(target, init, headers = {}) {
  const hits = await upstreamHits();
  const answer = await send(target, init, headers);
  assert.equal(answer.status, 402, answer.body);
  assert.match(header(answer, "cache-control") ?? "", /no-store/);
  const bytes = answer.lines.reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0);
  assert.ok(bytes < HEADERS_BYTES_MAX, `${bytes} bytes of headers`);
  assert.equal(await upstreamHits(), hits, "an unpaid call reached the upstream");
  const lines = answer.lines.filter(([name]) => name === "www-authenticate").map(([, value]) => value);
  const payments = lines.filter((line) => line.startsWith("Payment "));
  const challenges = payments.flatMap((line) => {
    const found = Challenge.deserializeList(line);
    assert.equal(found.length, 1, "two challenges in one line");
    return found;
  });
  // Merged into one line, as fetch does it, they say the same.
  assert.deepEqual(Challenge.deserializeList(lines.join(", ")), challenges);
  return { answer, lines, challenges, body: JSON.parse(answer.body) };
}

/** The challenge of one method and intent. */
export function of(challenges, method, intent) {
  const found = challenges.filter((challenge) => challenge.method === method && challenge.intent === intent);
  assert.equal(found.length, 1, `${method}/${intent} among ${challenges.map((c) => `${c.method}/${c.intent}`)}`);
  return found[0];
}

/** Fails unless this answer says that it was paid, by this method. */
export function assertReceipt(response, method, intent = "charge") {
  const receipt = Receipt.fromResponse(response);
  assert.equal(receipt.method, method);
  assert.equal(receipt.status, "success");
  if (receipt.intent) assert.equal(receipt.intent, intent);
  assert.match(response.headers.get("cache-control") ?? "", /private|no-store/);
  return receipt;
}

/** The end of the problem type of a refusal. */
export const problem = (body) => body.type?.replace("https://paymentauth.org/problems/", "");

/** A credential as it went over the wire, with something else in its challenge or payload. */
export function altered(credential, change) {
  const wire = JSON.parse(Buffer.from(credential.replace(/^Payment /, ""), "base64url"));
  change(wire);
  return `Payment ${Buffer.from(JSON.stringify(wire)).toString("base64url")}`;
}

/** Serves what the gateway stands before at its fragile route: each call is answered by the next of `answers`. */
export async function fragileUpstream(answers) {
  const seen = [];
  const server = http.createServer(async (request, response) => {
    for await (const piece of request) void piece;
    seen.push(request.headers);
    const status = answers[Math.min(seen.length, answers.length) - 1];
    response.writeHead(status, { "content-type": "application/json" }).end(`{"status":${status}}`);
  });
  await new Promise((resolve) => server.listen(Number(env("PEER_PORT")), "127.0.0.1", resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { seen, close };
}

/** What must not reach an upstream. */
const SECRETS = ["authorization", "payment-authorization", "payment-signature", "x-payment", "x-api-key", "accept-payment"];
export const secretsIn = (headers) => SECRETS.filter((name) => name in headers);
