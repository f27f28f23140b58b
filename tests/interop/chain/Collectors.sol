// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Collector} from "./Channels.sol";
import {Erc20} from "./Erc20.sol";
import {Permission, Permit, Permitted, Taken} from "./Permit.sol";

/// What a collector uses of a token with EIP-3009.
interface Erc3009 {
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}

/// A payer signs for a collector, not for the contract of the channels: so only that one may call it.
abstract contract ChannelCollector is Collector {
    address private constant CHANNELS = 0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003;

    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata data) external {
        require(msg.sender == CHANNELS, "caller is not the contract of the channels");
        _collect(payer, token, amount, channelId, data);
    }

    function _collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata data)
        internal
        virtual;
}

/// Stand-in for deposits by EIP-3009. The nonce is made of the channel: the authorisation for one
/// channel is none for another.
contract Erc3009Collector is ChannelCollector {
    function _collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata data)
        internal
        override
    {
        (uint256 validAfter, uint256 validBefore, uint256 salt, bytes memory signature) =
            abi.decode(data, (uint256, uint256, uint256, bytes));
        bytes32 nonce = keccak256(abi.encode(channelId, salt));
        Erc3009(token).receiveWithAuthorization(
            payer, address(this), amount, validAfter, validBefore, nonce, signature
        );
        Erc20(token).transfer(msg.sender, amount);
    }
}

/// Stand-in for deposits by Permit2. The witness is the channel.
contract PermitCollector is ChannelCollector {
    Permit private constant PERMIT2 = Permit(0x000000000022D473030F116dDEE9F6B43aC78BA3);
    bytes32 private constant WITNESS_TYPEHASH = keccak256("DepositWitness(bytes32 channelId)");
    string private constant WITNESS_TYPE =
        "DepositWitness witness)DepositWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)";

    /// What a payer's deposit carries, as one tuple: a function has no room for so many values.
    struct Signed {
        uint256 nonce;
        uint256 deadline;
        bytes signature;
        bytes approval;
    }

    function _collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata data)
        internal
        override
    {
        Signed memory signed = abi.decode(bytes.concat(bytes32(uint256(32)), data), (Signed));
        require(signed.approval.length == 0, "approval by signature is not played here");
        PERMIT2.permitWitnessTransferFrom(
            Permission(Permitted(token, amount), signed.nonce, signed.deadline),
            Taken(msg.sender, amount),
            payer,
            keccak256(abi.encode(WITNESS_TYPEHASH, channelId)),
            WITNESS_TYPE,
            signed.signature
        );
    }
}
