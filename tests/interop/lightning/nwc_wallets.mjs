// A Nostr relay, and behind it wallets that Alby's wallet service speaks for: the seller's makes invoices, the payer's pays
// them, and the shop's and the guest's do both. The invoices are of the kind that our `test` node makes, so whoever has one
// can pay it; those of the guest's wallet are another node's. `GET /__calls` tells what the wallets were asked, once they can be;
// `GET /__open_invoice` makes one of the guest's that leaves its amount open, which Alby's client asks no wallet for.
import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import bolt11 from "bolt11";
import WebSocket, { WebSocketServer } from "ws";

globalThis.WebSocket ??= WebSocket;
const { NWCWalletService, NWCWalletServiceKeyPair } = await import("@getalby/sdk/nwc");
const { finalizeEvent, getPublicKey, verifyEvent } = await import("nostr-tools");

const port = Number(process.env.PORT);
const relayUrl = `ws://127.0.0.1:${port}/`;
/** Of the test node: bech32 prefix as `bolt11` wants it, and its public test key. */
const REGTEST = { bech32: "bcrt", pubKeyHash: 0x6f, scriptHash: 0xc4, validWitnessVersions: [0, 1] };
const NODE_SECRET = Buffer.from("farthing's public lightning key!");
const GUEST_NODE_SECRET = Buffer.alloc(32, 0x19);
/** Test keys: what whoever asks is known to a wallet by, and the wallet's own. */
const KEYS = {
  seller: ["11".repeat(32), "12".repeat(32)],
  payer: ["13".repeat(32), "14".repeat(32)],
  shop: ["15".repeat(32), "16".repeat(32)],
  guest: ["17".repeat(32), "18".repeat(32)],
};
const publicKey = (secret) => getPublicKey(Buffer.from(secret, "hex"));
const now = () => Math.floor(Date.now() / 1000);

// The relay: it checks signatures, keeps what is to be kept, and passes on what is asked for.
const kept = new Map();
const guests = new Set();

function passes(event, filter) {
  return Object.entries(filter).every(([name, wanted]) => {
    if (name === "kinds") return wanted.includes(event.kind);
    if (name === "authors") return wanted.includes(event.pubkey);
    if (name === "since") return event.created_at >= wanted;
    if (name === "limit") return true;
    if (name.startsWith("#")) return event.tags.some(([tag, value]) => tag === name.slice(1) && wanted.includes(value));
    throw new Error(`a filter of ${name}`);
  });
}

function pass(event, guest, subscription, filters) {
  if (filters.some((filter) => passes(event, filter))) guest.socket.send(JSON.stringify(["EVENT", subscription, event]));
}

function hear(guest, [word, first, ...rest]) {
  if (word === "CLOSE") guest.subscriptions.delete(first);
  if (word === "REQ") {
    guest.subscriptions.set(first, rest);
    for (const event of kept.values()) pass(event, guest, first, rest);
    guest.socket.send(JSON.stringify(["EOSE", first]));
  }
  if (word === "EVENT") {
    if (!verifyEvent(first)) return guest.socket.send(JSON.stringify(["OK", first.id, false, "invalid: signature"]));
    guest.socket.send(JSON.stringify(["OK", first.id, true, ""]));
    if (first.kind >= 10_000 && first.kind < 20_000) kept.set(`${first.kind}:${first.pubkey}`, first);
    for (const other of guests) for (const [name, filters] of other.subscriptions) pass(first, other, name, filters);
  }
}

// The wallets.
const ALWAYS = ["get_info", "lookup_invoice"];
const METHODS = {
  seller: [...ALWAYS, "make_invoice"],
  payer: [...ALWAYS, "pay_invoice"],
  shop: [...ALWAYS, "make_invoice", "pay_invoice"],
  guest: [...ALWAYS, "make_invoice", "pay_invoice"],
};
const calls = [];
const books = Object.fromEntries(Object.keys(KEYS).map((name) => [name, new Map()]));
const preimageOf = (secret) => createHash("sha256").update("farthing/test-preimage/1").update(secret).digest();

/** An invoice for so many millisatoshi; for 0 whoever pays says how many. */
function mint(name, { amount, description = "", expiry = 3600 }) {
  const secret = randomBytes(32);
  const preimage = preimageOf(secret);
  const hash = createHash("sha256").update(preimage).digest("hex");
  const made = bolt11.encode({
    network: REGTEST,
    ...(amount > 0 ? { millisatoshis: `${amount}` } : {}),
    timestamp: now(),
    tags: [
      { tagName: "payment_hash", data: hash },
      { tagName: "payment_secret", data: secret.toString("hex") },
      { tagName: "description", data: description },
      { tagName: "expire_time", data: expiry },
      { tagName: "min_final_cltv_expiry", data: 18 },
      { tagName: "feature_bits", data: { word_length: 3, var_onion_optin: { required: true }, payment_secret: { required: true } } },
    ],
  });
  const invoice = bolt11.sign(made, name === "guest" ? GUEST_NODE_SECRET : NODE_SECRET).paymentRequest;
  const entry = { type: "incoming", state: "pending", invoice, description, payment_hash: hash, amount, fees_paid: 0, created_at: now(), expires_at: now() + expiry };
  books[name].set(hash, entry);
  return entry;
}

const refused = (code, message) => ({ result: undefined, error: { code, message } });
const known = (book, hash) => (book.has(hash) ? { result: book.get(hash), error: undefined } : refused("NOT_FOUND", "not found"));

async function pay(name, { invoice, amount }) {
  const { tagsObject: tags, millisatoshis } = bolt11.decode(invoice, REGTEST);
  const preimage = preimageOf(Buffer.from(tags.payment_secret, "hex"));
  if (createHash("sha256").update(preimage).digest("hex") !== tags.payment_hash) return refused("PAYMENT_FAILED", "no route");
  const settled = { state: "settled", settled_at: now(), preimage: preimage.toString("hex") };
  if (books[name].has(tags.payment_hash)) return refused("PAYMENT_FAILED", "paid already");
  const entry = { invoice, payment_hash: tags.payment_hash, amount: Number(millisatoshis ?? amount), created_at: now() };
  books[name].set(tags.payment_hash, { type: "outgoing", fees_paid: 1, ...entry, ...settled });
  for (const [other, book] of Object.entries(books)) {
    const received = book.get(tags.payment_hash);
    if (received?.type === "incoming") await notify(other, Object.assign(received, settled, { amount: entry.amount }));
  }
  return { result: { preimage: settled.preimage, fees_paid: 1 }, error: undefined };
}

const service = new NWCWalletService({ relayUrl });
const pairs = Object.fromEntries(Object.entries(KEYS).map(([name, [client, wallet]]) => [name, new NWCWalletServiceKeyPair(wallet, publicKey(client))]));

async function notify(name, notification) {
  const content = await service.encrypt(pairs[name], JSON.stringify({ notification_type: "payment_received", notification }), "nip44_v2");
  const event = { kind: 23197, created_at: now(), tags: [["p", publicKey(KEYS[name][0])]], content };
  await service.relay.publish(finalizeEvent(event, Buffer.from(KEYS[name][1], "hex")));
}

function handler(name) {
  const told = (method, answer) => async (asked) => {
    calls.push({ wallet: name, method });
    return answer(asked);
  };
  const always = {
    getInfo: told("get_info", () => ({
      result: { alias: name, pubkey: publicPoint(name), network: "regtest", methods: METHODS[name], color: "", block_height: 1, block_hash: "" },
      error: undefined,
    })),
    lookupInvoice: told("lookup_invoice", ({ payment_hash: hash }) => known(books[name], hash)),
  };
  const pays = { payInvoice: told("pay_invoice", (asked) => pay(name, asked)) };
  const makes = { makeInvoice: told("make_invoice", (asked) => ({ result: mint(name, asked), error: undefined })) };
  return { ...always, ...(METHODS[name].includes("pay_invoice") && pays), ...(METHODS[name].includes("make_invoice") && makes) };
}

/** The node's key as an invoice names it. */
function publicPoint(name) {
  return bolt11.decode(mint(name, { amount: 1000 }).invoice, REGTEST).payeeNodeKey;
}

let isReady = false;
const server = http.createServer((request, response) => {
  const told = { "/__calls": () => calls, "/__open_invoice": () => mint("guest", { amount: 0 }) }[request.url];
  response.writeHead(isReady && told ? 200 : 404, { "content-type": "application/json" });
  response.end(`${JSON.stringify(isReady && told ? told() : {})}\n`);
});
new WebSocketServer({ server }).on("connection", (socket) => {
  const guest = { socket, subscriptions: new Map() };
  guests.add(guest);
  socket.on("message", (text) => hear(guest, JSON.parse(text)));
  socket.on("close", () => guests.delete(guest));
});
await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));

for (const [name, pair] of Object.entries(pairs)) {
  await service.publishWalletServiceInfoEvent(pair.walletSecret, METHODS[name], ["payment_received"]);
  await service.subscribe(pair, handler(name));
}
isReady = true;
