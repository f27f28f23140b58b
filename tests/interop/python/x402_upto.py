"""The unmodified Python x402 package signs a ceiling, and what was used is taken of it."""

from harness import assert_balance, run, until, upstream_hits
from x402 import x402Client
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.mechanisms.evm.upto import UptoEvmScheme
from x402_harness import (
    NANO_PER_ATOMIC,
    NETWORK,
    approve_permit,
    assert_streamed,
    atomic_up,
    client_payer,
    facilitator_calls,
    fine_cost_nano,
    pay,
    request,
    streamed,
    transfers,
    unpaid,
)

ACCOUNT = client_payer(7)
CLIENT = x402Client()
CLIENT.register(NETWORK, UptoEvmScheme(EthAccountSigner(ACCOUNT)))
# The payer's account: its key, and what rounding up has left on it, in billionths of a dollar.
dust = {"key": None, "nano": 0}


def paid(body):
    """Pays for one call and waits for its settlement."""
    offer = unpaid(body, lambda offer: offer["scheme"] == "upto")
    hits, asked, before = upstream_hits(), len(facilitator_calls()), transfers(ACCOUNT.address)
    answer = pay(CLIENT, body)
    assert answer.status == 200, answer.body
    assert upstream_hits() == hits + 1

    cost = fine_cost_nano(answer.usage)
    metered = atomic_up(cost)
    assert metered < int(offer["amount"]), f"metered {metered} of {offer['amount']}: too near to tell them apart"
    until(lambda: transfers(ACCOUNT.address), lambda moved: moved == [*before, metered], f"expected {metered} more")
    calls = [(call["op"], call["scheme"], call["amount"]) for call in facilitator_calls(asked)]
    assert calls == [("verify", "upto", offer["amount"]), ("settle", "upto", str(metered))], calls
    dust["key"] = dust["key"] or answer.headers["farthing-key"]
    dust["nano"] += metered * NANO_PER_ATOMIC - cost
    assert_balance(dust["key"], dust["nano"])
    return answer


def upto_takes_what_was_used():
    approve_permit(ACCOUNT)
    paid(request("Not more than it took.", model="fine-play"))


def upto_streams():
    approve_permit(ACCOUNT)
    body = streamed("Not more than it took, word by word.", model="fine-play")
    assert_streamed(paid(body), body)


run([upto_takes_what_was_used, upto_streams])
