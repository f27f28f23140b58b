"""The unmodified Python x402 package pays for calls over httpx, on a local chain."""

from harness import assert_balance, cost_nano, run, upstream_hits
from x402 import x402Client
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner
from x402_harness import (
    NANO_PER_ATOMIC,
    NETWORK,
    assert_moved,
    assert_streamed,
    client_payer,
    pay,
    request,
    streamed,
    transfers,
    unpaid,
)

ACCOUNT = client_payer(5)
# What is left of the payments so far, in billionths of a dollar: they all go to one account.
change = {"left": 0}


def client():
    return register_exact_evm_client(x402Client(), EthAccountSigner(ACCOUNT))


def is_exact(offer):
    return offer["scheme"] == "exact"


def assert_paid(answer, settled, amount):
    assert_moved(settled.transaction, ACCOUNT.address, amount)
    usage = answer.usage
    change["left"] += amount * NANO_PER_ATOMIC - cost_nano(usage["prompt_tokens"], usage["completion_tokens"])
    assert_balance(answer.headers["farthing-key"], change["left"])


def pays():
    body = request("From another language.")
    offer = unpaid(body, is_exact)
    hits, moved = upstream_hits(), len(transfers(ACCOUNT.address))
    answer = pay(client(), body)
    assert answer.status == 200, answer.body
    assert (answer.settled.success, answer.settled.network, answer.settled.payer) == (True, NETWORK, ACCOUNT.address)
    assert upstream_hits() == hits + 1
    assert len(transfers(ACCOUNT.address)) == moved + 1
    assert_paid(answer, answer.settled, int(offer["amount"]))


def pays_and_streams():
    body = streamed("From another language, word by word.")
    offer = unpaid(body, is_exact)
    moved = len(transfers(ACCOUNT.address))
    answer = pay(client(), body)
    assert answer.status == 200, answer.body
    assert_streamed(answer, body)
    assert len(transfers(ACCOUNT.address)) == moved + 1
    assert_paid(answer, answer.settled, int(offer["amount"]))


run([pays, pays_and_streams])
