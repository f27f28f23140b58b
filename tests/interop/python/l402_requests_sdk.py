"""The unmodified l402-requests with a wallet of ours: its own one for LND takes the preimage for base64, which LND
sends as hexadecimal."""

import json

from l402_requests import (
    BudgetController,
    InvoiceAmountUnknownError,
    L402Client,
    LndWallet,
    WalletBase,
)

from harness import assert_balance, env, run, upstream_hits
from l402_harness import (
    CHEAP,
    CHEAP_URL,
    LONG,
    MACAROON,
    ONCE_URL,
    URL,
    assert_paid_call,
    call,
    credit_nano,
    once,
    pay_invoice,
    payments,
)


class Wallet(WalletBase):
    async def pay_invoice(self, bolt11):
        return pay_invoice(bolt11)


client = L402Client(wallet=Wallet())
# What a scenario passes on to the next: the credential, and what is left on it, in nano-USD.
paid = {}


def shown(response):
    return response.request.headers["authorization"]


def token_of(credential):
    return credential.removeprefix("L402 ").split(":")[0]


def l402_pays():
    before = len(payments())
    response = client.post(URL, json=call("Say something short."))
    assert response.status_code == 200, response.text
    credential = shown(response)
    left = assert_paid_call(response.json()["usage"], credential, credit_nano(token_of(credential)))
    assert len(payments()) == before + 1
    assert client.spending_log.total_spent() >= 2, "it counts less than it paid"
    assert_balance(response.headers["farthing-key"], left)
    paid.update(credential=credential, left=left)


def l402_draws_without_paying():
    before = len(payments())
    response = client.post(URL, json=call("And something more."))
    assert response.status_code == 200, response.text
    assert shown(response) == paid["credential"]
    paid["left"] = assert_paid_call(response.json()["usage"], paid["credential"], paid["left"])
    # It reads an answer before it hands it over, streamed or not.
    streamed = call("A short story, please.", stream=True, stream_options={"include_usage": True})
    response = client.post(URL, json=streamed)
    assert response.status_code == 200 and response.text.rstrip().endswith("data: [DONE]"), response.text
    usage = json.loads(response.text.split("data: ")[-2])["usage"]
    assert_paid_call(usage, paid["credential"], paid["left"])
    assert len(payments()) == before


def l402_exhausted_pays_again():
    """A 402 on the credential that it keeps: it pays, once, and the caller sees nothing of it."""
    before = len(payments())
    for _ in range(20):
        hits = upstream_hits()
        response = client.post(URL, json=call(LONG))
        assert response.status_code == 200, response.text
        assert upstream_hits() == hits + 1
        if len(payments()) > before:
            break
    assert len(payments()) == before + 1, "20 calls, and something is left of a payment for five"
    credential = shown(response)
    assert credential != paid["credential"]
    assert_paid_call(response.json()["usage"], credential, credit_nano(token_of(credential)))


def l402_fixed_price_once():
    """It keeps what it paid with for an hour, and shows it again: each later call of it is refused as the copy it is."""
    first = client.post(ONCE_URL, json=once("Once."))
    assert first.status_code == 200, first.text
    hits, before = upstream_hits(), len(payments())
    second = client.post(ONCE_URL, json=once("Twice."))
    assert second.status_code == 403, second.text
    assert (upstream_hits(), len(payments())) == (hits, before)
    # Another client, or this one with an empty cache, pays.
    with_cache_emptied = L402Client(wallet=Wallet())
    assert with_cache_emptied.post(ONCE_URL, json=once("Anew.")).status_code == 200


def l402_budget_stops_it():
    """Its own limits hold: it reads what our invoice asks for."""
    before = len(payments())
    poor = L402Client(wallet=Wallet(), budget=BudgetController(max_sats_per_request=1))
    try:
        poor.post(URL, json=call("Too dear."))
    except Exception as error:
        assert type(error).__name__ == "BudgetExceededError", repr(error)
    else:
        raise AssertionError("it paid 2 sat with a limit of 1")
    assert len(payments()) == before


def l402_below_a_satoshi():
    """It counts in whole satoshis and pays nothing that it counts as none."""
    before = len(payments())
    try:
        client.post(CHEAP_URL, json=CHEAP)
    except InvoiceAmountUnknownError:
        pass
    else:
        raise AssertionError("it paid for what it cannot count")
    assert len(payments()) == before


def l402_own_lnd_wallet_misreads():
    """Recorded as it is: paid, and refused, for the 48 bytes that it shows are no preimage."""
    lnd = L402Client(wallet=LndWallet(env("WALLET_URL"), MACAROON))
    before, hits = len(payments()), upstream_hits()
    response = lnd.post(URL, json=call("By way of LND."))
    assert response.status_code == 402, response.text
    assert (len(payments()), upstream_hits()) == (before + 1, hits)


run([
    l402_pays,
    l402_draws_without_paying,
    l402_exhausted_pays_again,
    l402_fixed_price_once,
    l402_budget_stops_it,
    l402_below_a_satoshi,
    l402_own_lnd_wallet_misreads,
])
