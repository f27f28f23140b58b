// What every script here knows about the chain of Tempo: addresses, public test keys, clients.
import { createClient, http, keccak256, encodeAbiParameters, parseAbi, publicActions, walletActions } from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { tempoModerato } from "viem/chains";

export const CHAIN_ID = tempoModerato.id;
/** The chain's own first dollar, in which deposits and fees are paid. */
export const TOKEN = "0x20c0000000000000000000000000000000000000";
/** Where clients expect the channel reserve. */
export const RESERVE = "0x4d50500000000000000000000000000000000000";

export const TOKEN_ABI = parseAbi([
  "function balanceOf(address) view returns (uint256)",
  "function approve(address spender, uint256 value) returns (bool)",
  "function transfer(address to, uint256 value) returns (bool)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
]);

const DESCRIPTOR =
  "(address payer, address payee, address operator, address token, bytes32 salt, address authorizedSigner, bytes32 expiringNonceHash)";
export const RESERVE_ABI = parseAbi([
  "function open(address payee, address operator, address token, uint96 deposit, bytes32 salt, address authorizedSigner) returns (bytes32)",
  `function topUp(${DESCRIPTOR} descriptor, uint96 additionalDeposit)`,
  `function settle(${DESCRIPTOR} descriptor, uint96 cumulativeAmount, bytes signature)`,
  `function close(${DESCRIPTOR} descriptor, uint96 cumulativeAmount, uint96 captureAmount, bytes signature)`,
  `function requestClose(${DESCRIPTOR} descriptor)`,
  `function withdraw(${DESCRIPTOR} descriptor)`,
  "function getChannelState(bytes32 channelId) view returns ((uint96 settled, uint96 deposit, uint32 closeRequestedAt))",
  "function domainSeparator() view returns (bytes32)",
  "event ChannelOpened(bytes32 indexed channelId, address indexed payer, address indexed payee, address operator, address token, address authorizedSigner, bytes32 salt, bytes32 expiringNonceHash, uint96 deposit)",
  "event ChannelClosed(bytes32 indexed channelId, address indexed payer, address indexed payee, uint96 settledToPayee, uint96 refundedToPayer)",
]);

/** Keys of the mnemonic every development chain starts with: public, worth nothing. The first ten have money. */
const MNEMONIC = "test test test test test test test test test test test junk";
const account = (addressIndex) => mnemonicToAccount(MNEMONIC, { addressIndex });
/** Whom the gateway under test lets claim and close. */
export const payee = () => account(6);
/** Payers of one scenario each, so that what one pays cannot be taken for what another pays. */
const PAYERS = [0, 1, 2, 3, 4, 5, 7, 8, 9];
export const payer = (n) => account(PAYERS[n]);
export const payers = () => PAYERS.map((_, n) => payer(n));

/** A client of the chain at `rpcUrl`; with an account it can also send transactions. */
export function tempoClient(rpcUrl, account) {
  const options = { chain: tempoModerato, transport: http(rpcUrl), pollingInterval: 30, account };
  return createClient(options).extend(publicActions).extend(walletActions);
}

/** Where the reserve's stand-in looks for the hash of the transaction that opens this channel. */
export const nonceHashSlot = (payer, salt) => {
  const key = keccak256(encodeAbiParameters([{ type: "address" }, { type: "bytes32" }], [payer, salt]));
  return keccak256(encodeAbiParameters([{ type: "bytes32" }, { type: "uint256" }], [key, 0n]));
};

/** What an account has, in millionths. */
export const tokenBalance = (client, owner) =>
  client.readContract({ address: TOKEN, abi: TOKEN_ABI, functionName: "balanceOf", args: [owner] });

/** What a channel is on the chain: all zero when it has ended. */
export const channelState = (client, id) =>
  client.readContract({ address: RESERVE, abi: RESERVE_ABI, functionName: "getChannelState", args: [id] });

/** How a channel ended, if it has: what its payee got and what its payer got back. */
export async function closed(client, channelId) {
  const [event] = await client.getContractEvents({
    address: RESERVE,
    abi: RESERVE_ABI,
    eventName: "ChannelClosed",
    args: { channelId },
    fromBlock: 0n,
  });
  return event?.args;
}
