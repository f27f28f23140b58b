// Stands before anvil's chain of Tempo at BEHIND_URL. Tells the stand-in for the channel reserve what it cannot know of
// itself: what the transaction hashes to that opens a channel. All else passes as it is.
//
// Places the stand-in first, and lets it move the payers' money; then serves JSON-RPC at PORT. It counts the
// transactions that come in signed: `GET /__sent` answers `{"sent":N}`.
import http from "node:http";
import { Session } from "mppx/tempo";
import { decodeFunctionData, isAddressEqual, maxUint256 } from "viem";
import { Channel, Transaction } from "viem/tempo";
import { compile } from "../chain/compile.mjs";
import { CHAIN_ID, RESERVE, RESERVE_ABI, TOKEN, TOKEN_ABI, nonceHashSlot, payers, tempoClient } from "./tempo.mjs";

const { BEHIND_URL, PORT } = process.env;
const SENDS = ["eth_sendRawTransaction", "eth_sendRawTransactionSync"];

const chain = tempoClient(BEHIND_URL);
await place();
let sent = 0;

/** Sets the reserve where clients look for it, and has every payer let it move money. */
async function place() {
  await chain.request({ method: "anvil_setCode", params: [RESERVE, compile("tempo").Reserve] });
  const separator = await chain.readContract({ address: RESERVE, abi: RESERVE_ABI, functionName: "domainSeparator" });
  if (separator !== Channel.domainSeparator({ chainId: CHAIN_ID })) {
    throw new Error(`the reserve takes vouchers for domain ${separator}`);
  }
  for (const account of payers()) await send(account, "approve", RESERVE, maxUint256);
  // Whoever is the first to fill an account pays for its place, which anvil leaves out when it estimates.
  await send(payers()[0], "transfer", RESERVE, 1n);
}

async function send(account, functionName, ...args) {
  const client = tempoClient(BEHIND_URL, account);
  const hash = await client.writeContract({ address: TOKEN, abi: TOKEN_ABI, functionName, args });
  const receipt = await client.waitForTransactionReceipt({ hash });
  if (receipt.status !== "success") throw new Error(`${functionName} by ${account.address}: ${hash}`);
}

/** The channel that this transaction opens, if it opens one: by whom, and with what salt. */
function opened(transaction) {
  const call = transaction.calls?.find(({ to, data }) => to && data && isAddressEqual(to, RESERVE));
  if (!call || !transaction.from) return undefined;
  const { functionName, args } = decodeFunctionData({ abi: RESERVE_ABI, data: call.data });
  return functionName === "open" ? { payer: transaction.from, salt: args[4] } : undefined;
}

/** Tells the reserve what it has to know before the transaction runs. */
async function announce(raw) {
  sent += 1;
  const transaction = Transaction.deserialize(raw);
  const channel = opened(transaction);
  if (!channel) return;
  const hash = Session.Precompile.Channel.computeExpiringNonceHash(transaction, { sender: channel.payer });
  const slot = nonceHashSlot(channel.payer, channel.salt);
  await chain.request({ method: "anvil_setStorageAt", params: [RESERVE, slot, hash] });
}

async function pass(body) {
  const asked = JSON.parse(body);
  for (const { method, params } of [asked].flat()) {
    // What is no transaction the chain itself refuses.
    if (SENDS.includes(method)) await announce(params[0]).catch((error) => console.error(error));
  }
  const headers = { "content-type": "application/json" };
  const answer = await fetch(BEHIND_URL, { method: "POST", headers, body });
  return [answer.status, await answer.text()];
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

http
  .createServer(async (request, response) => {
    try {
      const [status, text] =
        request.url === "/__sent" ? [200, JSON.stringify({ sent })] : await pass(await body(request));
      response.writeHead(status, { "content-type": "application/json" }).end(text);
    } catch (error) {
      console.error(error);
      response.writeHead(500).end();
    }
  })
  .listen(Number(PORT), "127.0.0.1");
