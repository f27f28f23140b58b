// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// Stand-in for the call aggregator that x402 facilitators look for at a fixed address. They ask
/// it why a transfer would fail; without it every refusal has the same reason.
contract Aggregator {
    struct Call {
        address target;
        bytes callData;
    }

    struct Answer {
        bool success;
        bytes returnData;
    }

    function tryAggregate(bool requireSuccess, Call[] calldata calls)
        external
        payable
        returns (Answer[] memory answers)
    {
        answers = new Answer[](calls.length);
        for (uint256 i = 0; i < calls.length; i++) {
            (answers[i].success, answers[i].returnData) = calls[i].target.call(calls[i].callData);
            require(!requireSuccess || answers[i].success, "call failed");
        }
    }
}
