// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// Stands where a facilitator of x402-rs looks for a judge of contract wallets before it starts. There
/// are no contract wallets here, and nobody asks it.
contract Validator {
    fallback() external {
        revert("contract wallets are not played here");
    }
}
