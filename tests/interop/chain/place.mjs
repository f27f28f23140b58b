// Compiles our contracts, sets them on the chain at RPC_URL and funds the payers. Ends with 0 only
// if the token signs for the domain that stock clients use.
import { readFileSync } from "node:fs";
import solc from "solc";
import { AGGREGATOR, DOMAIN_SEPARATOR, TOKEN, TOKEN_ABI, chainClient, payer, secondPayer } from "./chain.mjs";

/** 1000 USDC for each payer. */
const FUNDS = 1_000_000_000n;

function compile() {
  const content = readFileSync(new URL("./Token.sol", import.meta.url), "utf8");
  const input = {
    language: "Solidity",
    sources: { "Token.sol": { content } },
    settings: {
      optimizer: { enabled: true, runs: 200 },
      outputSelection: { "*": { "*": ["evm.deployedBytecode.object"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const problems = (output.errors ?? []).map((e) => e.formattedMessage);
  if (problems.length > 0) throw new Error(problems.join("\n"));
  const code = (name) => `0x${output.contracts["Token.sol"][name].evm.deployedBytecode.object}`;
  return { token: code("Token"), aggregator: code("Aggregator") };
}

const client = chainClient(process.env.RPC_URL, payer());
const code = compile();
await client.request({ method: "anvil_setCode", params: [TOKEN, code.token] });
await client.request({ method: "anvil_setCode", params: [AGGREGATOR, code.aggregator] });

const separator = await client.readContract({ address: TOKEN, abi: TOKEN_ABI, functionName: "DOMAIN_SEPARATOR" });
if (separator !== DOMAIN_SEPARATOR) throw new Error(`token signs for domain ${separator}`);

for (const account of [payer(), secondPayer()]) {
  const hash = await client.writeContract({
    address: TOKEN,
    abi: TOKEN_ABI,
    functionName: "mint",
    args: [account.address, FUNDS],
  });
  const receipt = await client.waitForTransactionReceipt({ hash });
  if (receipt.status !== "success") throw new Error(`mint failed: ${hash}`);
}
console.log("placed");
