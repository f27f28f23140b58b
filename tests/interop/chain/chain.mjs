// What every script here knows about the local chain: addresses, public test keys, one client.
import { createPublicClient, createWalletClient, defineChain, http, parseAbi, publicActions } from "viem";
import { mnemonicToAccount } from "viem/accounts";

/** Where the play token stands: the address stock x402 clients know as USDC on Base Sepolia. */
export const TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
/** Where x402 facilitators look for a call aggregator. */
export const AGGREGATOR = "0xcA11bde05977b3631167028862bE2a173976CA11";
/** EIP-712 domain of ("USDC", "2", 84532, TOKEN): the one the payers sign for. */
export const DOMAIN_SEPARATOR = "0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818";
export const NETWORK = "eip155:84532";

export const TOKEN_ABI = parseAbi([
  "function DOMAIN_SEPARATOR() view returns (bytes32)",
  "function balanceOf(address) view returns (uint256)",
  "function mint(address to, uint256 value)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
]);

/** Keys of the mnemonic every development chain starts with: public, worth nothing. */
const MNEMONIC = "test test test test test test test test test test test junk";
export const payer = () => mnemonicToAccount(MNEMONIC, { addressIndex: 0 });
export const secondPayer = () => mnemonicToAccount(MNEMONIC, { addressIndex: 1 });
export const facilitatorAccount = () => mnemonicToAccount(MNEMONIC, { addressIndex: 5 });

/** A client of the chain at `rpcUrl`; with an account it can also send transactions. */
export function chainClient(rpcUrl, account) {
  const chain = defineChain({
    id: 84532,
    name: "local",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [rpcUrl] } },
  });
  // The default of 4 s would be most of every settlement.
  const options = { chain, transport: http(rpcUrl), pollingInterval: 30 };
  return account ? createWalletClient({ account, ...options }).extend(publicActions) : createPublicClient(options);
}

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
