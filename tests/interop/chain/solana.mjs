// What the scripts know about the local Solana chain, `python/solana_chain.py`.
import { createKeyPairSignerFromPrivateKeyBytes } from "@solana/kit";

export const DEVNET = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
/** What stock clients know as USDC there. */
export const MINT = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU";

/** Public test keys, worth nothing: one byte 32 times each. */
export const PAYER = 7;
export const SELLER = 8;
export const FEE_PAYER = 9;
export const keyPair = (byte) => createKeyPairSignerFromPrivateKeyBytes(new Uint8Array(32).fill(byte));
