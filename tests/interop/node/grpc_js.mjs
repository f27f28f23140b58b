// The unmodified @grpc/grpc-js on both sides of the gateway. Messages are plain bytes, so no schema is needed.
import assert from "node:assert/strict";
import * as grpc from "@grpc/grpc-js";
import { balanceNano, env, run } from "./harness.mjs";

const KEY = env("FARTHING_KEY");
const [BYTE, HEAD, CALL] = [1000n, 5n, 1_000_000n];
const same = (bytes) => bytes;

const kinds = {
  Echo: [false, false],
  Words: [false, true],
  Collect: [true, false],
  Talk: [true, true],
  Fails: [false, false],
};
const service = (name, methods) =>
  Object.fromEntries(
    methods.map((method) => {
      const [requestStream, responseStream] = kinds[method];
      const codecs = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
      return [method, { path: `/${name}/${method}`, requestStream, responseStream, ...codecs }];
    }),
  );
const METERED = service("metered.M", Object.keys(kinds));
const FIXED = service("fixed.F", ["Echo"]);

const upper = (call, done) => {
  const trailers = new grpc.Metadata();
  trailers.set("x-length", String(call.request.length));
  done(null, Buffer.from(call.request.toString().toUpperCase()), trailers);
};

async function serve() {
  const server = new grpc.Server();
  server.addService(METERED, {
    Echo: upper,
    Words(call) {
      for (const word of call.request.toString().split(" ")) call.write(Buffer.from(word));
      call.end();
    },
    Collect(call, done) {
      const got = [];
      call.on("data", (message) => got.push(message.toString()));
      call.on("end", () => done(null, Buffer.from(got.join("+"))));
    },
    Talk(call) {
      call.on("data", (message) => call.write(Buffer.from(`re: ${message}`)));
      call.on("end", () => call.end());
    },
    Fails: (_, done) => done({ code: grpc.status.NOT_FOUND, details: "no such thing" }),
  });
  server.addService(FIXED, { Echo: upper });
  const address = `127.0.0.1:${env("PEER_PORT")}`;
  await new Promise((resolve, reject) => {
    server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
  });
  return server;
}

const to = new URL(env("GATEWAY_URL")).host;
const client = (definition) => new (grpc.makeGenericClientConstructor(definition, "S"))(to, grpc.credentials.createInsecure());
const metered = client(METERED);
const fixed = client(FIXED);
const paid = () => {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${KEY}`);
  return metadata;
};

/** Calls with one message and one answer: what came, and the status. */
const unary = (of, method, text, metadata) =>
  new Promise((resolve) => {
    const told = {};
    const call = of[method](Buffer.from(text), metadata, (error, answer) => {
      told.error = error;
      told.answer = answer?.toString();
    });
    call.on("status", (status) => resolve({ ...told, status }));
  });

async function charged(cost, work) {
  const before = await balanceNano(KEY);
  await work();
  for (let tries = 0; tries < 2400; tries += 1) {
    if ((await balanceNano(KEY)) === before - cost) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.equal(await balanceNano(KEY), before - cost);
}

const server = await serve();
await run({
  async "unary-is-paid"() {
    await charged((HEAD + 5n) * BYTE, async () => {
      const { answer, status } = await unary(metered, "Echo", "hello", paid());
      assert.equal(answer, "HELLO");
      assert.equal(status.code, grpc.status.OK);
      assert.deepEqual(status.metadata.get("x-length"), ["5"]);
      assert.deepEqual(status.metadata.get("farthing-charge"), ["0.000010000 TEST"]);
    });
    await charged(CALL, async () => assert.equal((await unary(fixed, "Echo", "a", paid())).answer, "A"));
  },
  async "streams-are-paid"() {
    await charged((3n * HEAD + 6n + HEAD + 5n) * BYTE, async () => {
      const got = [];
      for await (const word of metered.Words(Buffer.from("a bc def"), paid())) got.push(word.toString());
      assert.deepEqual(got, ["a", "bc", "def"]);
      const whole = await new Promise((resolve, reject) => {
        const call = metered.Collect(paid(), (error, answer) => (error ? reject(error) : resolve(answer.toString())));
        for (const word of ["1", "2", "3"]) call.write(Buffer.from(word));
        call.end();
      });
      assert.equal(whole, "1+2+3");
    });
  },
  async "two-way-stream-does-not-wait"() {
    await charged((2n * HEAD + 14n) * BYTE, async () => {
      const call = metered.Talk(paid());
      const next = () => new Promise((resolve) => call.once("data", (message) => resolve(message.toString())));
      for (const word of ["one", "two"]) {
        const answer = next();
        call.write(Buffer.from(word));
        assert.equal(await answer, `re: ${word}`);
      }
      const ended = new Promise((resolve) => call.on("status", resolve));
      call.resume();
      call.end();
      assert.equal((await ended).code, grpc.status.OK);
    });
  },
  async "refusals-and-failures-are-free"() {
    await charged(0n, async () => {
      const failed = await unary(metered, "Fails", "a", paid());
      assert.equal(failed.status.code, grpc.status.NOT_FOUND);
      assert.equal(failed.status.details, "no such thing");
      const unpaid = await unary(metered, "Echo", "a", new grpc.Metadata());
      assert.equal(unpaid.status.code, grpc.status.INTERNAL);
      assert.equal(unpaid.status.details, "payment required");
      assert.match(unpaid.status.metadata.get("www-authenticate")[0], /^L402 macaroon="/);
      assert.deepEqual(unpaid.status.metadata.get("farthing-money"), ["nothing_taken"]);
    });
  },
});
server.forceShutdown();
