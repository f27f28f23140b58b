"""The unmodified Python x402 package opens a payment channel, pays with vouchers, and gets the rest back."""

from harness import env, run, upstream_hits
from web3 import Web3
from x402 import x402Client
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC
from x402_harness import (
    CHAIN,
    CHANNELS,
    NANO_PER_ATOMIC,
    NETWORK,
    assert_streamed,
    atomic_up,
    client_payer,
    facilitator_calls,
    fine_cost_nano,
    pay,
    request,
    streamed,
    token_balance,
    unpaid,
)

ACCOUNT = client_payer(8)
SIGNER = EthAccountSignerWithRPC(ACCOUNT, env("RPC_URL"))
SCHEME = BatchSettlementEvmScheme(SIGNER)
# The channel as the scenarios know it: what was charged on it, and what the calls cost, in billionths of a dollar.
channel = {"id": None, "deposit": 0, "charged": 0, "cost": 0}
# The other place where the rest of a channel is asked for: the JavaScript client asks where it paid.
REFUND_URL = env("GATEWAY_URL") + "/farthing/refund"


def client(scheme):
    paying = x402Client()
    paying.register(NETWORK, scheme)
    return paying


CLIENT = client(SCHEME)


def on_chain():
    """What is in the channel, and what of it was claimed."""
    data = Web3.keccak(text="channels(bytes32)")[:4] + bytes.fromhex(channel["id"][2:])
    answer = CHAIN.eth.call({"to": CHANNELS, "data": "0x" + data.hex()})
    return int.from_bytes(answer[:32]), int.from_bytes(answer[32:])


def paid(body, by=CLIENT):
    """Pays for one call on the channel and checks what the head says of it."""
    offer = unpaid(body, lambda offer: offer["scheme"] == "batch-settlement")
    hits = upstream_hits()
    answer = pay(by, body)
    assert answer.status == 200, answer.body
    assert upstream_hits() == hits + 1

    said = answer.settled
    state = said.extra["channelState"]
    charged = int(said.extra["chargedAmount"])
    assert said.success
    assert charged <= int(offer["amount"]), (charged, offer)
    channel["id"] = channel["id"] or state["channelId"]
    channel["charged"] += charged
    channel["cost"] += fine_cost_nano(answer.usage)
    assert (state["channelId"], int(state["chargedCumulativeAmount"])) == (channel["id"], channel["charged"]), state
    # What was charged covers what was used, and runs ahead of it by one call at most.
    carry = channel["charged"] * NANO_PER_ATOMIC - channel["cost"]
    assert 0 <= carry <= int(offer["amount"]) * NANO_PER_ATOMIC, carry
    return answer, said, offer


def channel_opens_and_streams():
    body = streamed("A story on credit.", model="fine-play")
    had, asked = token_balance(ACCOUNT.address), len(facilitator_calls())
    answer, said, offer = paid(body)
    assert_streamed(answer, body)
    channel["deposit"] = int(offer["extra"]["minDeposit"])
    assert said.amount == offer["extra"]["minDeposit"], said
    assert token_balance(ACCOUNT.address) == had - channel["deposit"]
    assert CHAIN.eth.get_transaction_receipt(said.transaction)["status"] == 1
    assert on_chain() == (channel["deposit"], 0)
    assert [call["op"] for call in facilitator_calls(asked) if call["type"] == "deposit"] == ["verify", "settle"]


def vouchers_ask_nobody():
    asked = len(facilitator_calls())
    for number in range(3):
        _, said, _ = paid(request(f"Call {number} on the channel.", model="fine-play"))
        assert (said.transaction, said.amount) == ("", ""), said
    body = streamed("The last on the channel, word by word.", model="fine-play")
    answer, _, _ = paid(body)
    assert_streamed(answer, body)
    assert facilitator_calls(asked) == []
    assert on_chain() == (channel["deposit"], 0)


def cold_client_is_put_right():
    """A client without memory reads the chain, where nothing is claimed yet, and signs too little."""
    cold = client(BatchSettlementEvmScheme(SIGNER))
    paid(request("Who was I?", model="fine-play"), cold)
    # The first client is now behind as well, and is put right by the same means.
    paid(request("I remember.", model="fine-play"))


def refund_gives_the_rest_back():
    had, hits = token_balance(ACCOUNT.address), upstream_hits()
    said = SCHEME.refund(REFUND_URL)
    assert said.success, said
    assert upstream_hits() == hits, "a refund reached the upstream"
    balance, claimed = on_chain()
    assert balance == claimed, "something is left in the channel"
    assert said.amount == str(channel["deposit"] - claimed), said
    assert token_balance(ACCOUNT.address) == had + channel["deposit"] - claimed
    # What was used, in whole atomic units, was claimed with it: no more, and no less.
    assert claimed == atomic_up(channel["cost"]), (claimed, channel)


run([channel_opens_and_streams, vouchers_ask_nobody, cold_client_is_put_right, refund_gives_the_rest_back])
