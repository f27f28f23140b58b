// The unmodified package ws on both sides of the gateway, with its compression of messages.
import assert from "node:assert/strict";
import { WebSocket, WebSocketServer } from "ws";
import { balanceNano, env, run } from "./harness.mjs";

const KEY = env("FARTHING_KEY");
const CALL = 1_000_000n;

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(env("PEER_PORT")), perMessageDeflate: { threshold: 0 } });
server.on("connection", (socket) => {
  socket.on("message", (message, isBinary) => {
    const text = message.toString();
    if (text === "close") socket.close(4001, "as you wish");
    else if (text === "vanish") socket.terminate();
    else if (text === "flood") setInterval(() => socket.send("x".repeat(1000)), 1);
    else socket.send(isBinary ? message : text, { binary: isBinary });
  });
});

const url = (path) => `${env("GATEWAY_URL").replace("http", "ws")}${path}`;
const open = (path, key, options) =>
  new Promise((resolve, reject) => {
    const headers = key ? { authorization: `Bearer ${key}` } : {};
    const socket = new WebSocket(url(path), { headers, ...options });
    socket.on("open", () => resolve(socket));
    socket.on("unexpected-response", (_, answer) => {
      socket.on("error", () => {});
      answer.resume();
      reject(Object.assign(new Error(`status ${answer.statusCode}`), { status: answer.statusCode, headers: answer.headers }));
      socket.terminate();
    });
    socket.on("error", reject);
  });
const heard = (socket) => new Promise((resolve) => socket.once("message", (message) => resolve(message.toString())));
const closed = (socket) => new Promise((resolve) => socket.once("close", (code) => resolve(code)));

async function charged(cost, work) {
  const before = await balanceNano(KEY);
  await work();
  for (let tries = 0; tries < 2400; tries += 1) {
    if ((await balanceNano(KEY)) === before - cost) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.equal(await balanceNano(KEY), before - cost);
}

await run({
  async "conversation-is-paid"() {
    await charged(CALL, async () => {
      const socket = await open("/talk", KEY);
      assert.match(socket.extensions, /permessage-deflate/);
      for (const text of ["hello", "y".repeat(100_000), "ä"]) {
        const answer = heard(socket);
        socket.send(text);
        assert.equal(await answer, text);
      }
      const pong = new Promise((resolve) => socket.once("pong", (data) => resolve(data.toString())));
      socket.ping("are you there");
      assert.equal(await pong, "are you there");
      const end = closed(socket);
      socket.close(1000);
      assert.equal(await end, 1000);
    });
  },
  async "each-end-is-told"() {
    await charged(2n * CALL, async () => {
      for (const [say, code] of [
        ["close", 4001],
        ["vanish", 1011],
      ]) {
        const socket = await open("/talk", KEY);
        const answer = heard(socket);
        socket.send("first");
        await answer;
        const end = closed(socket);
        socket.send(say);
        assert.equal(await end, code, say);
      }
    });
  },
  async "ends-with-the-balance"() {
    const socket = await open("/flow", env("FARTHING_SMALL_KEY"), { perMessageDeflate: false });
    let bytes = 0;
    socket.on("message", (message) => (bytes += message.length));
    socket.on("error", () => {});
    const end = closed(socket);
    socket.send("flood");
    assert.ok([1006, 1008].includes(await end));
    assert.ok(bytes > 0);
    assert.equal(await balanceNano(env("FARTHING_SMALL_KEY")), 0n);
  },
  async "unpaid-is-402"() {
    const refused = await open("/talk", null).catch((error) => error);
    assert.equal(refused.status, 402);
    assert.match(refused.headers["www-authenticate"], /^L402 /);
    const plain = await fetch(`${env("GATEWAY_URL")}/talk`, { headers: { authorization: `Bearer ${KEY}` } });
    assert.equal(plain.status, 400);
  },
});
