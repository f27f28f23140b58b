// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Erc20} from "./Erc20.sol";
import {Signature} from "./Signature.sol";

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

/// Stand-in for Permit2: transfers that an ERC-20 owner signs for one spender, with a witness the
/// spender hands in. The owner once approves this contract at the token; after that a signature is
/// enough. Nonces come in no order: each is one bit, `nonce & 255` of word `nonce >> 8`.
contract Permit {
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)");
    bytes32 private constant PERMITTED_TYPEHASH = keccak256("TokenPermissions(address token,uint256 amount)");
    string private constant TYPE_BEFORE_WITNESS =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";

    mapping(address => mapping(uint256 => uint256)) public nonceBitmap;

    error SignatureExpired(uint256 deadline);
    error InvalidAmount(uint256 permitted);
    error InvalidNonce();
    error InvalidSigner();

    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, keccak256("Permit2"), block.chainid, address(this)));
    }

    /// Moves what the owner permitted the caller, once. `witnessType` is the end of the signed type:
    /// the member `witness` and every struct type after it, in the order of their names.
    function permitWitnessTransferFrom(
        Permission calldata permission,
        Taken calldata taken,
        address owner,
        bytes32 witness,
        string calldata witnessType,
        bytes calldata signature
    ) external {
        if (block.timestamp > permission.deadline) revert SignatureExpired(permission.deadline);
        if (taken.requestedAmount > permission.permitted.amount) revert InvalidAmount(permission.permitted.amount);
        _use(owner, permission.nonce);
        bytes32 message = _message(permission, msg.sender, witness, witnessType);
        if (Signature.signer(Signature.typed(DOMAIN_SEPARATOR(), message), signature) != owner) {
            revert InvalidSigner();
        }
        Erc20(permission.permitted.token).transferFrom(owner, taken.to, taken.requestedAmount);
    }

    /// Lets a payer take back what it signed: the bits of one word, used up without a transfer.
    function invalidateUnorderedNonces(uint256 word, uint256 mask) external {
        nonceBitmap[msg.sender][word] |= mask;
    }

    function _message(Permission calldata permission, address spender, bytes32 witness, string calldata witnessType)
        private
        pure
        returns (bytes32)
    {
        bytes32 permitted =
            keccak256(abi.encode(PERMITTED_TYPEHASH, permission.permitted.token, permission.permitted.amount));
        bytes32 typehash = keccak256(abi.encodePacked(TYPE_BEFORE_WITNESS, witnessType));
        return keccak256(
            abi.encode(typehash, permitted, spender, permission.nonce, permission.deadline, witness)
        );
    }

    function _use(address owner, uint256 nonce) private {
        uint256 bit = 1 << (nonce & 255);
        uint256 word = nonceBitmap[owner][nonce >> 8];
        if (word & bit != 0) revert InvalidNonce();
        nonceBitmap[owner][nonce >> 8] = word | bit;
    }
}
