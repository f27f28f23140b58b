// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// What a payer permits one spender to take.
struct Permitted {
    address token;
    uint256 amount;
}

/// A permission with what makes it good for one use: a nonce, and a second after which it is void.
struct Permission {
    Permitted permitted;
    uint256 nonce;
    uint256 deadline;
}

/// What the spender takes of it, and for whom.
struct Taken {
    address to;
    uint256 requestedAmount;
}

/// Permit2, as its spenders call it: transfers that an ERC-20 owner signs for one spender, with a witness the spender hands
/// in. The owner once approves this contract at the token; after that a signature is enough. Nonces come in no order: each
/// is one bit, `nonce & 255` of word `nonce >> 8`.
interface Permit {
    /// Moves what the owner permitted the caller, once. `witnessType` is the end of the signed type:
    /// the member `witness` and every struct type after it, in the order of their names.
    function permitWitnessTransferFrom(
        Permission calldata permission,
        Taken calldata taken,
        address owner,
        bytes32 witness,
        string calldata witnessType,
        bytes calldata signature
    ) external;
}
