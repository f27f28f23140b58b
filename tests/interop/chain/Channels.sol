// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Erc20} from "./Erc20.sol";
import {Signature} from "./Signature.sol";

/// What a channel is, for ever: its hash is its name.
struct ChannelConfig {
    address payer;
    address payerAuthorizer;
    address receiver;
    address receiverAuthorizer;
    address token;
    uint40 withdrawDelay;
    bytes32 salt;
}

/// A payer's word: of this channel, up to so much in all.
struct Voucher {
    ChannelConfig channel;
    uint128 maxClaimableAmount;
}

/// A voucher with what the receiver takes on it, counted from the channel's beginning.
struct VoucherClaim {
    Voucher voucher;
    bytes signature;
    uint128 totalClaimed;
}

/// Brings a deposit from its payer to the caller.
interface Collector {
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata data) external;
}

/// Stand-in for the contract of the `batch-settlement` scheme: money of one payer for one receiver,
/// paid out against cumulative vouchers. A claim only counts; `settle` pays a receiver for all its
/// channels of one token at once.
///
/// Stricter than need be in one point: a claim that takes nothing new is refused, so that who sends
/// one by mistake is found out.
contract Channels {
    uint40 private constant WITHDRAW_DELAY_MIN = 15 minutes;
    uint40 private constant WITHDRAW_DELAY_MAX = 30 days;

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 public constant CHANNEL_CONFIG_TYPEHASH = keccak256(
        "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
    );
    bytes32 private constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
    bytes32 private constant REFUND_TYPEHASH = keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)");
    bytes32 private constant CLAIM_ENTRY_TYPEHASH =
        keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
    bytes32 private constant CLAIM_BATCH_TYPEHASH = keccak256(
        "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
    );

    /// Deposited, less what was refunded or withdrawn; and what of it the receiver has claimed.
    struct Channel {
        uint128 balance;
        uint128 totalClaimed;
    }

    struct Withdrawal {
        uint128 amount;
        uint40 initiatedAt;
    }

    struct Receiver {
        uint128 totalClaimed;
        uint128 totalSettled;
    }

    mapping(bytes32 => Channel) public channels;
    mapping(bytes32 => Withdrawal) public pendingWithdrawals;
    mapping(bytes32 => uint256) public refundNonce;
    mapping(address => mapping(address => Receiver)) public receivers;

    event Deposited(bytes32 indexed channelId, uint128 amount);
    event Claimed(bytes32 indexed channelId, uint128 totalClaimed);
    event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
    event Refunded(bytes32 indexed channelId, uint128 amount);
    event WithdrawInitiated(bytes32 indexed channelId, uint128 amount);
    event WithdrawFinalized(bytes32 indexed channelId, uint128 amount);

    /// Several of the calls below in one transaction: all, or none.
    function multicall(bytes[] calldata data) external returns (bytes[] memory results) {
        results = new bytes[](data.length);
        for (uint256 i = 0; i < data.length; i++) {
            (bool done, bytes memory result) = address(this).delegatecall(data[i]);
            if (!done) {
                assembly ("memory-safe") {
                    revert(add(result, 32), mload(result))
                }
            }
            results[i] = result;
        }
    }

    function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData)
        external
    {
        require(config.payer != address(0) && config.receiver != address(0), "no payer or receiver");
        require(config.receiverAuthorizer != address(0), "no receiver authorizer");
        require(
            config.withdrawDelay >= WITHDRAW_DELAY_MIN && config.withdrawDelay <= WITHDRAW_DELAY_MAX,
            "withdraw delay out of range"
        );
        require(amount > 0, "nothing to deposit");
        bytes32 id = getChannelId(config);
        uint256 before = Erc20(config.token).balanceOf(address(this));
        Collector(collector).collect(config.payer, config.token, amount, id, collectorData);
        require(Erc20(config.token).balanceOf(address(this)) == before + amount, "deposit did not arrive");
        channels[id].balance += amount;
        emit Deposited(id, amount);
    }

    /// For the receiver's own hand.
    function claim(VoucherClaim[] calldata voucherClaims) external {
        for (uint256 i = 0; i < voucherClaims.length; i++) {
            _receiverSide(voucherClaims[i].voucher.channel);
            _claim(voucherClaims[i]);
        }
    }

    /// For any hand, with the signature of the one authorizer that all rows name.
    function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature) external {
        require(voucherClaims.length > 0, "nothing to claim");
        address authorizer = Signature.signer(getClaimBatchDigest(voucherClaims), authorizerSignature);
        for (uint256 i = 0; i < voucherClaims.length; i++) {
            require(voucherClaims[i].voucher.channel.receiverAuthorizer == authorizer, "invalid authorizer signature");
            _claim(voucherClaims[i]);
        }
    }

    function settle(address receiver, address token) external {
        Receiver storage account = receivers[receiver][token];
        uint128 amount = account.totalClaimed - account.totalSettled;
        if (amount == 0) return;
        account.totalSettled = account.totalClaimed;
        Erc20(token).transfer(receiver, amount);
        emit Settled(receiver, token, msg.sender, amount);
    }

    /// For the receiver's own hand.
    function refund(ChannelConfig calldata config, uint128 amount) external {
        _receiverSide(config);
        _refund(config, amount);
    }

    /// For any hand, with the authorizer's signature over the channel's next refund.
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata receiverAuthorizerSignature
    ) external {
        bytes32 id = getChannelId(config);
        require(nonce == refundNonce[id], "invalid refund nonce");
        address signer = Signature.signer(getRefundDigest(id, nonce, amount), receiverAuthorizerSignature);
        require(signer == config.receiverAuthorizer, "invalid authorizer signature");
        _refund(config, amount);
    }

    /// Begins the payer's way out without the receiver: it ends `withdrawDelay` seconds later.
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external {
        _payerSide(config);
        bytes32 id = getChannelId(config);
        require(pendingWithdrawals[id].initiatedAt == 0, "a withdrawal is pending");
        require(amount > 0 && amount <= _unclaimed(id), "withdrawal exceeds what is unclaimed");
        pendingWithdrawals[id] = Withdrawal(amount, uint40(block.timestamp));
        emit WithdrawInitiated(id, amount);
    }

    /// Pays out what was asked for, or what claims have left of it.
    function finalizeWithdraw(ChannelConfig calldata config) external {
        _payerSide(config);
        bytes32 id = getChannelId(config);
        Withdrawal memory pending = pendingWithdrawals[id];
        require(pending.initiatedAt != 0, "no withdrawal is pending");
        require(block.timestamp >= uint256(pending.initiatedAt) + config.withdrawDelay, "withdrawal is not due");
        delete pendingWithdrawals[id];
        emit WithdrawFinalized(id, _payOut(config, id, pending.amount));
    }

    function getChannelId(ChannelConfig calldata config) public view returns (bytes32) {
        return Signature.typed(
            _domain(),
            keccak256(
                abi.encode(
                    CHANNEL_CONFIG_TYPEHASH,
                    config.payer,
                    config.payerAuthorizer,
                    config.receiver,
                    config.receiverAuthorizer,
                    config.token,
                    config.withdrawDelay,
                    config.salt
                )
            )
        );
    }

    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) public view returns (bytes32) {
        return Signature.typed(_domain(), keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, maxClaimableAmount)));
    }

    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) public view returns (bytes32) {
        return Signature.typed(_domain(), keccak256(abi.encode(REFUND_TYPEHASH, channelId, nonce, amount)));
    }

    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) public view returns (bytes32) {
        bytes32[] memory rows = new bytes32[](voucherClaims.length);
        for (uint256 i = 0; i < voucherClaims.length; i++) {
            VoucherClaim calldata row = voucherClaims[i];
            rows[i] = keccak256(
                abi.encode(
                    CLAIM_ENTRY_TYPEHASH,
                    getChannelId(row.voucher.channel),
                    row.voucher.maxClaimableAmount,
                    row.totalClaimed
                )
            );
        }
        bytes32 all = keccak256(abi.encodePacked(rows));
        return Signature.typed(_domain(), keccak256(abi.encode(CLAIM_BATCH_TYPEHASH, all)));
    }

    function _claim(VoucherClaim calldata row) private {
        ChannelConfig calldata config = row.voucher.channel;
        bytes32 id = getChannelId(config);
        // Without an authorizer of its own the payer signs: here always a key, never a contract.
        address authorizer = config.payerAuthorizer == address(0) ? config.payer : config.payerAuthorizer;
        bytes32 digest = getVoucherDigest(id, row.voucher.maxClaimableAmount);
        require(Signature.signer(digest, row.signature) == authorizer, "invalid voucher signature");
        require(row.totalClaimed <= row.voucher.maxClaimableAmount, "claim exceeds voucher");
        Channel storage channel = channels[id];
        require(row.totalClaimed <= channel.balance, "claim exceeds balance");
        require(row.totalClaimed > channel.totalClaimed, "claim takes nothing new");
        receivers[config.receiver][config.token].totalClaimed += row.totalClaimed - channel.totalClaimed;
        channel.totalClaimed = row.totalClaimed;
        emit Claimed(id, row.totalClaimed);
    }

    /// Counts the refund first, whatever it then pays: a signature for it is used up.
    function _refund(ChannelConfig calldata config, uint128 amount) private {
        require(amount > 0, "nothing to refund");
        bytes32 id = getChannelId(config);
        refundNonce[id]++;
        uint128 paid = _payOut(config, id, amount);
        Withdrawal storage pending = pendingWithdrawals[id];
        if (pending.amount <= paid) {
            delete pendingWithdrawals[id];
        } else {
            pending.amount -= paid;
        }
        if (paid > 0) emit Refunded(id, paid);
    }

    function _payOut(ChannelConfig calldata config, bytes32 id, uint128 wanted) private returns (uint128 paid) {
        uint128 left = _unclaimed(id);
        paid = wanted < left ? wanted : left;
        channels[id].balance -= paid;
        if (paid > 0) Erc20(config.token).transfer(config.payer, paid);
    }

    function _unclaimed(bytes32 id) private view returns (uint128) {
        return channels[id].balance - channels[id].totalClaimed;
    }

    function _receiverSide(ChannelConfig calldata config) private view {
        require(msg.sender == config.receiver || msg.sender == config.receiverAuthorizer, "not the receiver");
    }

    function _payerSide(ChannelConfig calldata config) private view {
        require(msg.sender == config.payer || msg.sender == config.payerAuthorizer, "not the payer");
    }

    function _domain() private view returns (bytes32) {
        return keccak256(
            abi.encode(
                DOMAIN_TYPEHASH, keccak256("x402 Batch Settlement"), keccak256("1"), block.chainid, address(this)
            )
        );
    }
}
