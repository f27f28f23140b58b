// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Erc20} from "../chain/Erc20.sol";
import {Signature} from "../chain/Signature.sol";

/// What a channel is, for ever: its hash is its name. Its last field is of the transaction that opened it.
struct Descriptor {
    address payer;
    address payee;
    address operator;
    address token;
    bytes32 salt;
    address authorizedSigner;
    bytes32 expiringNonceHash;
}

/// What the payee has taken, what is there in all, and when the payer asked for the rest. An ended channel is all zero.
struct State {
    uint96 settled;
    uint96 deposit;
    uint32 closeRequestedAt;
}

/// A descriptor with its state.
struct Channel {
    Descriptor descriptor;
    State state;
}

/// Stand-in for Tempo's channel reserve, which the chain under test does not have yet: money of one payer for one
/// payee, paid out against cumulative vouchers.
///
/// Two things the real one does without help. It knows the hash of the transaction it runs in; ours is told before
/// by `chain.mjs`, which writes into `nonceHashes`. It moves the payer's money without an allowance; ours needs one.
contract Reserve {
    uint64 public constant CLOSE_GRACE_PERIOD = 15 minutes;
    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint96 cumulativeAmount)");
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// By keccak256(payer, salt): what the transaction that opens this channel hashes to. In slot 0.
    mapping(bytes32 => bytes32) private nonceHashes;
    mapping(bytes32 => State) private states;

    event ChannelOpened(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        address operator,
        address token,
        address authorizedSigner,
        bytes32 salt,
        bytes32 expiringNonceHash,
        uint96 deposit
    );
    event TopUp(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint96 additionalDeposit,
        uint96 newDeposit
    );
    event Settled(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint96 cumulativeAmount,
        uint96 deltaPaid,
        uint96 newSettled
    );
    event CloseRequested(
        bytes32 indexed channelId, address indexed payer, address indexed payee, uint256 closeGraceEnd
    );
    event CloseRequestCancelled(bytes32 indexed channelId, address indexed payer, address indexed payee);
    event ChannelClosed(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint96 settledToPayee,
        uint96 refundedToPayer
    );

    function open(
        address payee,
        address operator,
        address token,
        uint96 deposit,
        bytes32 salt,
        address authorizedSigner
    ) external returns (bytes32 id) {
        require(payee != address(0), "no payee");
        require(deposit > 0, "nothing to deposit");
        bytes32 expiringNonceHash = nonceHashes[keccak256(abi.encode(msg.sender, salt))];
        id = computeChannelId(msg.sender, payee, operator, token, salt, authorizedSigner, expiringNonceHash);
        // An ended channel is never opened again, since its name has that of its transaction in it.
        require(states[id].deposit == 0, "channel exists");
        states[id].deposit = deposit;
        _collect(token, deposit);
        emit ChannelOpened(
            id, msg.sender, payee, operator, token, authorizedSigner, salt, expiringNonceHash, deposit
        );
    }

    /// By the payer; who adds money takes a request to close back.
    function topUp(Descriptor calldata descriptor, uint96 additionalDeposit) external {
        _payerSide(descriptor);
        (bytes32 id, State storage state) = _open(descriptor);
        if (state.closeRequestedAt != 0) {
            state.closeRequestedAt = 0;
            emit CloseRequestCancelled(id, descriptor.payer, descriptor.payee);
        }
        require(additionalDeposit > 0, "nothing to deposit");
        state.deposit += additionalDeposit;
        _collect(descriptor.token, additionalDeposit);
        emit TopUp(id, descriptor.payer, descriptor.payee, additionalDeposit, state.deposit);
    }

    /// Takes what a voucher promises, and leaves the channel open.
    function settle(Descriptor calldata descriptor, uint96 cumulativeAmount, bytes calldata signature) external {
        _payeeSide(descriptor);
        (bytes32 id, State storage state) = _open(descriptor);
        require(cumulativeAmount > state.settled, "settles nothing new");
        require(cumulativeAmount <= state.deposit, "voucher exceeds deposit");
        _voucher(id, descriptor, cumulativeAmount, signature);
        uint96 delta = cumulativeAmount - state.settled;
        state.settled = cumulativeAmount;
        Erc20(descriptor.token).transfer(descriptor.payee, delta);
        emit Settled(id, descriptor.payer, descriptor.payee, cumulativeAmount, delta, cumulativeAmount);
    }

    /// Takes no more than a voucher promises, and gives the rest back.
    function close(
        Descriptor calldata descriptor,
        uint96 cumulativeAmount,
        uint96 captureAmount,
        bytes calldata signature
    ) external {
        _payeeSide(descriptor);
        (bytes32 id, State storage state) = _open(descriptor);
        require(captureAmount >= state.settled, "captures less than is settled");
        require(captureAmount <= cumulativeAmount, "captures more than the voucher");
        require(captureAmount <= state.deposit, "captures more than the deposit");
        if (captureAmount > state.settled) _voucher(id, descriptor, cumulativeAmount, signature);
        _end(id, descriptor, captureAmount);
    }

    /// Begins the payer's way out without the payee: it ends a quarter of an hour later.
    function requestClose(Descriptor calldata descriptor) external {
        _payerSide(descriptor);
        (bytes32 id, State storage state) = _open(descriptor);
        require(state.closeRequestedAt == 0, "a close is pending");
        state.closeRequestedAt = uint32(block.timestamp);
        emit CloseRequested(id, descriptor.payer, descriptor.payee, block.timestamp + CLOSE_GRACE_PERIOD);
    }

    function withdraw(Descriptor calldata descriptor) external {
        _payerSide(descriptor);
        (bytes32 id, State storage state) = _open(descriptor);
        require(state.closeRequestedAt != 0, "no close is pending");
        require(block.timestamp >= state.closeRequestedAt + CLOSE_GRACE_PERIOD, "the close is not due");
        _end(id, descriptor, state.settled);
    }

    function getChannel(Descriptor calldata descriptor) external view returns (Channel memory) {
        return Channel(descriptor, states[_id(descriptor)]);
    }

    function getChannelState(bytes32 channelId) external view returns (State memory) {
        return states[channelId];
    }

    function getChannelStatesBatch(bytes32[] calldata channelIds) external view returns (State[] memory found) {
        found = new State[](channelIds.length);
        for (uint256 i = 0; i < channelIds.length; i++) {
            found[i] = states[channelIds[i]];
        }
    }

    function computeChannelId(
        address payer,
        address payee,
        address operator,
        address token,
        bytes32 salt,
        address authorizedSigner,
        bytes32 expiringNonceHash
    ) public view returns (bytes32) {
        return keccak256(
            abi.encode(
                payer,
                payee,
                operator,
                token,
                salt,
                authorizedSigner,
                expiringNonceHash,
                address(this),
                block.chainid
            )
        );
    }

    function getVoucherDigest(bytes32 channelId, uint96 cumulativeAmount) public view returns (bytes32) {
        return Signature.typed(
            domainSeparator(), keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, cumulativeAmount))
        );
    }

    function domainSeparator() public view returns (bytes32) {
        return keccak256(
            abi.encode(
                DOMAIN_TYPEHASH,
                keccak256("TIP20 Channel Reserve"),
                keccak256("1"),
                block.chainid,
                address(this)
            )
        );
    }

    function _end(bytes32 id, Descriptor calldata descriptor, uint96 captured) private {
        State memory state = states[id];
        delete states[id];
        if (captured > state.settled) {
            Erc20(descriptor.token).transfer(descriptor.payee, captured - state.settled);
        }
        if (state.deposit > captured) Erc20(descriptor.token).transfer(descriptor.payer, state.deposit - captured);
        emit ChannelClosed(id, descriptor.payer, descriptor.payee, captured, state.deposit - captured);
    }

    function _collect(address token, uint96 amount) private {
        Erc20(token).transferFrom(msg.sender, address(this), amount);
    }

    function _voucher(
        bytes32 id,
        Descriptor calldata descriptor,
        uint96 cumulativeAmount,
        bytes calldata signature
    ) private view {
        address signer = descriptor.authorizedSigner == address(0) ? descriptor.payer : descriptor.authorizedSigner;
        bytes32 digest = getVoucherDigest(id, cumulativeAmount);
        require(Signature.signer(digest, signature) == signer, "invalid voucher signature");
    }

    function _open(Descriptor calldata descriptor) private view returns (bytes32 id, State storage state) {
        id = _id(descriptor);
        state = states[id];
        require(state.deposit > 0, "no such open channel");
    }

    function _id(Descriptor calldata d) private view returns (bytes32) {
        return computeChannelId(
            d.payer, d.payee, d.operator, d.token, d.salt, d.authorizedSigner, d.expiringNonceHash
        );
    }

    function _payerSide(Descriptor calldata descriptor) private view {
        require(msg.sender == descriptor.payer, "not the payer");
    }

    function _payeeSide(Descriptor calldata descriptor) private view {
        bool operates = descriptor.operator != address(0) && msg.sender == descriptor.operator;
        require(msg.sender == descriptor.payee || operates, "not the payee or its operator");
    }
}
