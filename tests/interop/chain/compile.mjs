// Our contracts, compiled at each run.
import { readFileSync, readdirSync } from "node:fs";
import solc from "solc";

const root = new URL("../", import.meta.url);

/** Runtime code of every contract in these folders and in what they import, by name. */
export function compile(...folders) {
  const paths = folders.flatMap((folder) =>
    readdirSync(new URL(`${folder}/`, root))
      .filter((name) => name.endsWith(".sol"))
      .map((name) => `${folder}/${name}`),
  );
  const sources = Object.fromEntries(paths.map((path) => [path, { content: readFileSync(new URL(path, root), "utf8") }]));
  const settings = {
    optimizer: { enabled: true, runs: 200 },
    outputSelection: { "*": { "*": ["evm.deployedBytecode.object"] } },
  };
  const read = (path) => ({ contents: readFileSync(new URL(path, root), "utf8") });
  const input = JSON.stringify({ language: "Solidity", sources, settings });
  const output = JSON.parse(solc.compile(input, { import: read }));
  const problems = (output.errors ?? []).map((e) => e.formattedMessage);
  if (problems.length > 0) throw new Error(problems.join("\n"));
  const contracts = Object.values(output.contracts).flatMap((file) => Object.entries(file));
  return Object.fromEntries(contracts.map(([name, { evm }]) => [name, `0x${evm.deployedBytecode.object}`]));
}
