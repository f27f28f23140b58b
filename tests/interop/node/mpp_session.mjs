// The unmodified mppx pays for calls by vouchers: it opens a channel on the chain of Tempo, signs for what it gets, and
// is given back what it did not use.
import assert from "node:assert/strict";
import { Mppx, sessionManager, sessionMethod } from "mppx/client";
import { channelState, closed, payer, tempoClient, tokenBalance } from "../tempo/tempo.mjs";
import { call, streamed, url } from "./calls.mjs";
import { costNano, env, run, upstreamHits } from "./harness.mjs";
import { Receipt } from "./mpp.mjs";

const RPC_URL = env("TEMPO_RPC_URL");
const chain = tempoClient(RPC_URL);
/** Vouchers are in millionths of a dollar. */
const NANO_PER_UNIT = 1000n;
const units = (nano) => (nano + NANO_PER_UNIT - 1n) / NANO_PER_UNIT;
/** What clients are told to put into a channel: enough for a few calls. */
const DEPOSIT = 400n;

const transactions = async () => (await (await fetch(`${RPC_URL}/__sent`)).json()).sent;
const costOf = (usage) => costNano(usage.prompt_tokens, usage.completion_tokens);

/** A manager of sessions, as its documentation has it. */
const manager = (account, more = {}) => sessionManager({ account, getClient: () => chain, maxDeposit: "0.01", ...more });

/** The text and usage of the pieces of a stream. */
function read(pieces) {
  assert.equal(pieces.at(-1), "[DONE]");
  const chunks = pieces.slice(0, -1).map((piece) => JSON.parse(piece));
  return { text: chunks.map((c) => c.choices[0]?.delta?.content ?? "").join(""), usage: chunks.at(-1).usage };
}

/** Streams one answer. Returns its text and usage, and the receipts that came with it. */
async function streams(session, content) {
  const receipts = [];
  const pieces = [];
  const init = { ...call(content, streamed), onReceipt: (receipt) => receipts.push(receipt) };
  for await (const piece of await session.sse(url, init)) pieces.push(piece);
  return { ...read(pieces), receipts };
}

const direct = async (content) => {
  const response = await fetch(`${env("UPSTREAM_URL")}/v1/chat/completions`, call(content, streamed));
  const lines = (await response.text()).split("\n").filter((line) => line.startsWith("data: "));
  return read(lines.map((line) => line.slice(6))).text;
};

/** Closes, and fails unless the seller took what was used and not a millionth more. */
async function closesExactly(session, account, spentNano) {
  const id = session.channelId;
  const { deposit } = await channelState(chain, id);
  const had = await tokenBalance(chain, account.address);
  const receipt = await session.close();
  const spent = units(spentNano);
  assert.equal(BigInt(receipt.spent), spent);
  assert.ok(BigInt(receipt.acceptedCumulative) >= spent);
  const end = await closed(chain, id);
  assert.deepEqual([end.settledToPayee, end.refundedToPayer], [spent, deposit - spent]);
  assert.equal(await tokenBalance(chain, account.address), had + deposit - spent);
  assert.deepEqual(await channelState(chain, id), { settled: 0n, deposit: 0n, closeRequestedAt: 0 });
}

async function paysAndCloses() {
  const account = payer(0);
  const session = manager(account);
  const [hits, sent] = [await upstreamHits(), await transactions()];
  const short = { max_tokens: 16 };
  const first = await session.fetch(url, call("The first.", short));
  assert.equal(first.status, 200, first.ok ? "" : await first.text());
  assert.equal(first.receipt.channelId, session.channelId);
  assert.ok(BigInt(first.receipt.spent) <= BigInt(first.receipt.acceptedCumulative));
  assert.deepEqual(await channelState(chain, session.channelId), { settled: 0n, deposit: DEPOSIT, closeRequestedAt: 0 });
  let spent = costOf((await first.json()).usage);

  // A voucher asks nobody.
  const second = await session.fetch(url, call("The second.", short));
  assert.equal(second.status, 200, second.ok ? "" : await second.text());
  spent += costOf((await second.json()).usage);
  assert.equal(await upstreamHits(), hits + 2);
  assert.equal(await transactions(), sent + 1);
  await closesExactly(session, account, spent);
}

async function streamsWithVouchers() {
  const account = payer(1);
  const session = manager(account);
  const content = "Word by word, and paid word by word.";
  const answer = await streams(session, content);
  assert.equal(answer.text, await direct(content), "something was lost while it waited for vouchers");
  const receipt = answer.receipts.at(-1);
  assert.equal(receipt.channelId, session.channelId);
  assert.equal(BigInt(receipt.spent), units(costOf(answer.usage)));
  // The first voucher was for the beginning alone: the rest was asked for on the way.
  assert.ok(session.cumulative < DEPOSIT);
  await closesExactly(session, account, costOf(answer.usage));
}

async function fillsUp() {
  const account = payer(2);
  const session = manager(account);
  const sent = await transactions();
  let spent = 0n;
  for (const content of ["Of four, the first.", "Of four, the second.", "Of four, the third.", "Of four, the last."]) {
    const answer = await streams(session, content);
    assert.equal(answer.text, await direct(content));
    spent += costOf(answer.usage);
    assert.equal(BigInt(answer.receipts.at(-1).spent), units(spent));
  }
  assert.ok(units(spent) > DEPOSIT, "it never had to put in more");
  const { deposit } = await channelState(chain, session.channelId);
  assert.ok(deposit > DEPOSIT);
  assert.equal(await transactions(), sent + 2, "one to open it, one to fill it up");
  await closesExactly(session, account, spent);
}

/** It puts in more while the answer waits. What it then closes by is older than what it signed last: it is put right. */
async function fillsUpMidStream() {
  const account = payer(5);
  const session = manager(account, { credentialContext: { depositRaw: "150" } });
  const sent = await transactions();
  const content = "In the middle of an answer.";
  const answer = await streams(session, content);
  assert.equal(answer.text, await direct(content));
  assert.ok((await channelState(chain, session.channelId)).deposit > 150n);
  assert.equal(await transactions(), sent + 2);
  await closesExactly(session, account, costOf(answer.usage));
}

/** Without a manager: the method among others, behind a `fetch` whose caller sees nothing of it. */
async function asAMethod() {
  const account = payer(3);
  const opened = [];
  const method = sessionMethod({ account, getClient: () => chain, maxDeposit: "0.01", onChannelUpdate: (entry) => opened.push(entry.channelId) });
  const { fetch: pay } = Mppx.create({ methods: [method], polyfill: false });
  const content = "Behind a plain fetch.";
  const response = await pay(url, call(content, streamed));
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  const lines = (await response.text()).split("\n").filter((line) => line.startsWith("data: "));
  const answer = read(lines.map((line) => line.slice(6)));
  assert.equal(answer.text, await direct(content));
  assert.equal(new Set(opened).size, 1);
  const plain = await pay(url, call("And once more."));
  assert.equal(plain.status, 200, plain.ok ? "" : await plain.text());
  assert.equal(Receipt.fromResponse(plain).channelId, opened[0]);
}

/** What a caller leaves half read is charged half, and the channel goes on. */
async function leftHalfRead() {
  const account = payer(4);
  const session = manager(account);
  const iterator = (await session.sse(url, call("Stop early.", streamed)))[Symbol.asyncIterator]();
  await iterator.next();
  await iterator.return();
  const answer = await streams(session, "Still there?");
  const spent = BigInt(answer.receipts.at(-1).spent);
  assert.ok(spent >= units(costOf(answer.usage)));
  const id = session.channelId;
  const receipt = await session.close();
  const end = await closed(chain, id);
  assert.equal(end.settledToPayee, BigInt(receipt.spent));
  assert.ok(end.settledToPayee >= spent);
}

/** Sends requests on, and notes what those without anything to buy were answered. */
function noting() {
  const alone = [];
  const send = async (input, init) => {
    const response = await fetch(input, init);
    if (init?.method === "POST" && !init.body) alone.push(response.status);
    return response;
  };
  return { alone, send };
}

/** Whoever remembers nothing but the channel's id goes on with it: what he has to sign he is told. */
async function recoversAForgottenChannel() {
  const account = payer(6);
  const short = { max_tokens: 16 };
  const before = manager(account);
  const first = await before.fetch(url, call("Before it forgot.", short));
  assert.equal(first.status, 200, first.ok ? "" : await first.text());
  let spent = costOf((await first.json()).usage);
  const sent = await transactions();

  const session = manager(account);
  const init = call("What did I sign?", short);
  init.headers["payment-session"] = before.channelId;
  const second = await session.fetch(url, init);
  assert.equal(second.status, 200, second.ok ? "" : await second.text());
  spent += costOf((await second.json()).usage);
  assert.equal(session.channelId, before.channelId, "it has opened another one");
  assert.equal(await transactions(), sent);
  assert.ok(session.cumulative >= units(spent));
  const third = await session.fetch(url, call("And on.", short));
  assert.equal(third.status, 200, third.ok ? "" : await third.text());
  spent += costOf((await third.json()).usage);
  await closesExactly(session, account, spent);
}

/** What it closes by is what it was told before the answer, which took more than that: it is put right. */
async function closesAfterAStaleAmount() {
  const account = payer(7);
  const { alone, send } = noting();
  const session = manager(account, { fetch: send, credentialContext: { depositRaw: "5000" } });
  let spent = 0n;
  // The second costs more than the first has left over.
  for (const content of ["A first answer.", "And a long one. ".repeat(60)]) {
    const answer = await streams(session, content);
    spent += costOf(answer.usage);
  }
  alone.length = 0;
  await closesExactly(session, account, spent);
  assert.deepEqual(alone, [402, 200], "the first amount was good");
}

/** An answer that was paid for is lost on the way, and the client takes back what it signed for it: what it signs next is less. */
async function goesOnAfterALostAnswer() {
  const account = payer(8);
  let lost;
  let loses = false;
  const send = async (input, init) => {
    const response = await fetch(input, init);
    if (!loses || !response.ok) return response;
    lost = (await response.json()).usage;
    throw new TypeError("the connection was cut");
  };
  const session = manager(account, { fetch: send, credentialContext: { depositRaw: "5000" } });
  const short = { max_tokens: 1 };
  const first = await session.fetch(url, call("Before.", short));
  assert.equal(first.status, 200, first.ok ? "" : await first.text());
  let spent = costOf((await first.json()).usage);
  loses = true;
  await assert.rejects(session.fetch(url, call("It never arrives.")), /cut/);
  loses = false;
  spent += costOf(lost);
  const signed = session.cumulative;
  const [hits, sent] = [await upstreamHits(), await transactions()];
  const next = await session.fetch(url, call("After.", short));
  assert.equal(next.status, 200, next.ok ? "" : await next.text());
  spent += costOf((await next.json()).usage);
  assert.ok(session.cumulative >= units(spent) && session.cumulative > signed);
  assert.deepEqual([await upstreamHits(), await transactions()], [hits + 1, sent]);
  await closesExactly(session, account, spent);
}

await run({
  "session-pays-and-closes": paysAndCloses,
  "session-streams-with-vouchers": streamsWithVouchers,
  "session-fills-up": fillsUp,
  "session-fills-up-mid-stream": fillsUpMidStream,
  "session-as-a-method": asAMethod,
  "session-left-half-read": leftHalfRead,
  "session-recovers-a-forgotten-channel": recoversAForgottenChannel,
  "session-closes-after-a-stale-amount": closesAfterAStaleAmount,
  "session-goes-on-after-a-lost-answer": goesOnAfterALostAnswer,
});
