"""The unmodified Python x402 package pays by Permit2."""

import base64
import json

from harness import assert_balance, cost_nano, run, upstream_hits
from x402 import x402Client
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner
from x402_harness import (
    NANO_PER_ATOMIC,
    NETWORK,
    approve_permit,
    assert_moved,
    assert_streamed,
    client_payer,
    facilitator_calls,
    pay,
    request,
    streamed,
    transfers,
    unpaid,
)

ACCOUNT = client_payer(6)
CLIENT = register_exact_evm_client(x402Client(), EthAccountSigner(ACCOUNT))


def by_permit(offer):
    return offer["scheme"] == "exact" and offer["extra"].get("assetTransferMethod") == "permit2"


def permit_without_allowance_is_412():
    approve_permit(ACCOUNT, 0)
    hits, asked = upstream_hits(), len(facilitator_calls())
    answer = pay(CLIENT, request("Without allowance."))
    assert answer.status == 412, answer.body
    challenge = json.loads(base64.b64decode(answer.headers["payment-required"]))
    assert challenge["error"] == "permit2_allowance_required", challenge
    assert any(by_permit(offer) for offer in challenge["accepts"])
    assert "payment-response" not in answer.headers
    assert [call["op"] for call in facilitator_calls(asked)] == ["verify"]
    assert upstream_hits() == hits
    assert transfers(ACCOUNT.address) == []


def permit_pays_and_streams():
    approve_permit(ACCOUNT)
    body = streamed("A permitted story.")
    offer = unpaid(body, by_permit)
    amount = int(offer["amount"])
    answer = pay(CLIENT, body)
    assert answer.status == 200, answer.body
    assert_streamed(answer, body)
    settled = answer.settled
    assert (settled.success, settled.network, settled.payer) == (True, NETWORK, ACCOUNT.address)
    assert_moved(settled.transaction, ACCOUNT.address, amount)
    assert transfers(ACCOUNT.address) == [amount]
    usage = answer.usage
    left = amount * NANO_PER_ATOMIC - cost_nano(usage["prompt_tokens"], usage["completion_tokens"])
    assert_balance(answer.headers["farthing-key"], left)


run([permit_without_allowance_is_412, permit_pays_and_streams])
