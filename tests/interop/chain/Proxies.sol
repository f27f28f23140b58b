// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Permission, Permit, Taken} from "./Permit.sol";

/// What both proxies refuse before they ask the permit contract, which knows nothing of payees.
abstract contract Proxy {
    Permit public constant PERMIT2 = Permit(0x000000000022D473030F116dDEE9F6B43aC78BA3);
    string internal constant TYPE_OF_PERMITTED = "TokenPermissions(address token,uint256 amount)";

    event Settled();

    error InvalidAmount();
    error InvalidDestination();
    error InvalidOwner();
    error PaymentTooEarly();

    function _pay(
        Permission calldata permission,
        uint256 amount,
        address owner,
        address to,
        uint256 validAfter,
        bytes32 witness,
        string memory witnessType,
        bytes calldata signature
    ) internal {
        if (amount == 0) revert InvalidAmount();
        if (owner == address(0)) revert InvalidOwner();
        if (to == address(0)) revert InvalidDestination();
        if (block.timestamp < validAfter) revert PaymentTooEarly();
        PERMIT2.permitWitnessTransferFrom(
            permission, Taken({to: to, requestedAmount: amount}), owner, witness, witnessType, signature
        );
        emit Settled();
    }
}

/// Stand-in for the spender of `exact` payments by Permit2: pays the whole permitted amount to the
/// payee that the owner signed for, whoever sends it.
contract ExactProxy is Proxy {
    struct Witness {
        address to;
        uint256 validAfter;
    }

    bytes32 public constant WITNESS_TYPEHASH = keccak256("Witness(address to,uint256 validAfter)");
    string public constant WITNESS_TYPE_STRING =
        string.concat("Witness witness)", TYPE_OF_PERMITTED, "Witness(address to,uint256 validAfter)");

    function settle(Permission calldata permit, address owner, Witness calldata witness, bytes calldata signature)
        external
    {
        bytes32 hash = keccak256(abi.encode(WITNESS_TYPEHASH, witness.to, witness.validAfter));
        uint256 amount = permit.permitted.amount;
        _pay(permit, amount, owner, witness.to, witness.validAfter, hash, WITNESS_TYPE_STRING, signature);
    }
}

/// Stand-in for the spender of `upto` payments: pays what was used, at most what was permitted, and
/// only when the facilitator that the owner signed for sends it.
contract UptoProxy is Proxy {
    struct Witness {
        address to;
        address facilitator;
        uint256 validAfter;
    }

    bytes32 public constant WITNESS_TYPEHASH =
        keccak256("Witness(address to,address facilitator,uint256 validAfter)");
    string public constant WITNESS_TYPE_STRING = string.concat(
        "Witness witness)", TYPE_OF_PERMITTED, "Witness(address to,address facilitator,uint256 validAfter)"
    );

    error AmountExceedsPermitted();
    error UnauthorizedFacilitator();

    function settle(
        Permission calldata permit,
        uint256 amount,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        if (msg.sender != witness.facilitator) revert UnauthorizedFacilitator();
        if (amount > permit.permitted.amount) revert AmountExceedsPermitted();
        bytes32 hash = keccak256(abi.encode(WITNESS_TYPEHASH, witness.to, witness.facilitator, witness.validAfter));
        _pay(permit, amount, owner, witness.to, witness.validAfter, hash, WITNESS_TYPE_STRING, signature);
    }
}
