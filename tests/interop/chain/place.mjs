// Compiles our contracts, sets them on the chain at RPC_URL and funds the payers. Ends with 0 only
// if the contracts sign for the domains that stock clients use.
import { readFileSync } from "node:fs";
import { encodeFunctionData, parseAbi } from "viem";
import { AGGREGATOR, CONTRACTS, PERMIT, TOKEN, TOKEN_ABI, chainClient, payer, payers, send } from "./chain.mjs";
import { compile } from "./compile.mjs";

/** 1000 USDC and 10 ETH for each payer. */
const FUNDS = 1_000_000_000n;
const GAS_FUNDS = "0x8ac7230489e80000";

/** What the payers sign for: a contract with another domain would refuse every signature. */
const SEPARATORS = {
  [TOKEN]: "0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818",
  [PERMIT]: "0x010f27a92fb9a32622f44f001dc4d15706a85b33499cfc2ce9033113ab26592c",
};

/** Permit2 as it stands on public chains: its code is one file of a package of which nothing else is used. */
const PERMIT2 = "../node_modules/@1inch/solidity-utils/dist/src/permit2.json";

const client = chainClient(process.env.RPC_URL, payer());
const { bytecode } = JSON.parse(readFileSync(new URL(PERMIT2, import.meta.url), "utf8"));
const code = { ...compile("chain"), Permit2: bytecode };
for (const [name, address] of Object.entries(CONTRACTS)) {
  await client.request({ method: "anvil_setCode", params: [address, code[name]] });
}
for (const [address, expected] of Object.entries(SEPARATORS)) {
  const separator = await client.readContract({ address, abi: TOKEN_ABI, functionName: "DOMAIN_SEPARATOR" });
  if (separator !== expected) throw new Error(`${address} signs for domain ${separator}`);
}

const mints = payers().map(({ address }) => ({
  target: TOKEN,
  callData: encodeFunctionData({ abi: TOKEN_ABI, functionName: "mint", args: [address, FUNDS] }),
}));
const abi = parseAbi(["function tryAggregate(bool, (address target, bytes callData)[] calls) returns ((bool, bytes)[])"]);
await send(client, { address: AGGREGATOR, abi, functionName: "tryAggregate", args: [true, mints] });
for (const { address } of payers()) {
  await client.request({ method: "anvil_setBalance", params: [address, GAS_FUNDS] });
}
console.log("placed");
