// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// Who signed a digest. Stricter than the curve: one signature of a message has one form, so a
/// twin of it with a large s, another v, or other bytes is nobody's.
library Signature {
    /// Half the order of secp256k1: a signature with a larger s is the twin of a canonical one.
    uint256 private constant S_MAX = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    function signer(bytes32 digest, bytes calldata signature) internal pure returns (address) {
        require(signature.length == 65, "invalid signature length");
        return signer(digest, uint8(signature[64]), bytes32(signature[0:32]), bytes32(signature[32:64]));
    }

    function signer(bytes32 digest, uint8 v, bytes32 r, bytes32 s) internal pure returns (address found) {
        require(v == 27 || v == 28, "invalid signature v");
        require(uint256(s) <= S_MAX, "invalid signature s");
        found = ecrecover(digest, v, r, s);
        require(found != address(0), "invalid signature");
    }

    /// The digest that EIP-712 wallets sign.
    function typed(bytes32 domain, bytes32 message) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", domain, message));
    }
}
