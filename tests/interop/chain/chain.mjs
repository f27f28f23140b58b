// What every script here knows about the local chain: addresses, public test keys, one client.
import { createPublicClient, createWalletClient, defineChain, http, parseAbi, publicActions } from "viem";
import { mnemonicToAccount } from "viem/accounts";

export const NETWORK = "eip155:84532";
export const CHAIN_ID = 84532;

/** Where the play token stands: the address stock x402 clients know as USDC on Base Sepolia. */
export const TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
/** Where x402 facilitators look for a call aggregator. */
export const AGGREGATOR = "0xcA11bde05977b3631167028862bE2a173976CA11";
/** Where payers and facilitators expect Permit2, and the x402 contracts. */
export const PERMIT = "0x000000000022D473030F116dDEE9F6B43aC78BA3";
export const EXACT_PROXY = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001";
export const UPTO_PROXY = "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002";
export const CHANNELS = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003";
export const ERC3009_COLLECTOR = "0x4020806089470a89826cB9fB1f4059150b550004";
export const PERMIT_COLLECTOR = "0x4020425FAf3B746C082C2f942b4E5159887B0005";
/** Where facilitators of x402-rs want a judge of contract wallets to be. */
export const VALIDATOR = "0xdAcD51A54883eb67D95FAEb2BBfdC4a9a6BD2a3B";

/** Which contract stands where: all are ours but Permit2. */
export const CONTRACTS = {
  Token: TOKEN,
  Aggregator: AGGREGATOR,
  Permit2: PERMIT,
  ExactProxy: EXACT_PROXY,
  UptoProxy: UPTO_PROXY,
  Channels: CHANNELS,
  Erc3009Collector: ERC3009_COLLECTOR,
  PermitCollector: PERMIT_COLLECTOR,
  Validator: VALIDATOR,
};

export const TOKEN_ABI = parseAbi([
  "function DOMAIN_SEPARATOR() view returns (bytes32)",
  "function balanceOf(address) view returns (uint256)",
  "function allowance(address owner, address spender) view returns (uint256)",
  "function approve(address spender, uint256 value) returns (bool)",
  "function mint(address to, uint256 value)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
]);

/** Keys of the mnemonic every development chain starts with: public, worth nothing. */
const MNEMONIC = "test test test test test test test test test test test junk";
const account = (addressIndex, options = {}) => mnemonicToAccount(MNEMONIC, { addressIndex, ...options });
export const payer = () => account(0);
export const secondPayer = () => account(1);
export const facilitatorAccount = (options) => account(5, options);
/** Signs claims and refunds of channels; the gateway under test holds this key. */
export const authorizer = () => account(7);
/** Payers of one client each, so that what one pays cannot be taken for what another pays. */
const CLIENT_PAYERS = [2, 3, 4, 8, 9, ...Array.from({ length: 35 }, (_, n) => 10 + n)];
export const clientPayer = (n) => account(CLIENT_PAYERS[n]);
/** All who have play money. */
export const payers = () => [payer(), secondPayer(), ...CLIENT_PAYERS.map((_, n) => clientPayer(n))];

/** A client of the chain at `rpcUrl`; with an account it can also send transactions. */
export function chainClient(rpcUrl, account) {
  const chain = defineChain({
    id: CHAIN_ID,
    name: "local",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [rpcUrl] } },
  });
  // The default of 4 s would be most of every settlement.
  const options = { chain, transport: http(rpcUrl), pollingInterval: 30 };
  return account ? createWalletClient({ account, ...options }).extend(publicActions) : createPublicClient(options);
}

/** Sends one call and waits until it stands on the chain. */
export async function send(client, call) {
  const { request } = await client.simulateContract({ account: client.account, ...call });
  const receipt = await client.waitForTransactionReceipt({ hash: await client.writeContract(request) });
  if (receipt.status !== "success") throw new Error(`${call.functionName} failed: ${receipt.transactionHash}`);
  return receipt;
}

/** Lets the permit contract move the play money of `account`: what a wallet does once, before its first permit. */
export async function approvePermit(rpcUrl, account, value = 2n ** 256n - 1n) {
  const client = chainClient(rpcUrl, account);
  await send(client, { address: TOKEN, abi: TOKEN_ABI, functionName: "approve", args: [PERMIT, value] });
}

/** What an account has of the play token, in atomic units. */
export const tokenBalance = (client, owner) =>
  client.readContract({ address: TOKEN, abi: TOKEN_ABI, functionName: "balanceOf", args: [owner] });

/** Transfers of the play token from one account to another since the chain began. */
export async function transfers(client, from, to) {
  return client.getContractEvents({
    address: TOKEN,
    abi: TOKEN_ABI,
    eventName: "Transfer",
    args: { from, to },
    fromBlock: 0n,
  });
}
