"""The unmodified l402sdk of Lightning Labs, with its own wallet for LND's REST interface."""

import json

from l402 import Budget, L402Client

from harness import env, run, upstream_hits
from l402_harness import CHEAP, CHEAP_URL, LONG, MACAROON, NANO_PER_MSAT, ONCE_URL, URL, assert_paid_call, call, once, payments


def client(**budget):
    return L402Client.with_lnd_rest(env("WALLET_URL"), MACAROON, budget=Budget(**budget) if budget else None)


usual = client()
# What a scenario passes on to the next.
paid = {}


def post(sdk, url, body):
    return sdk.post(url, json.dumps(body))


def l402_pays():
    before, hits = len(payments()), upstream_hits()
    response = post(usual, URL, call("Say something short."))
    assert (response.status, response.paid, response.cached_token) == (200, True, False), response.text()
    assert (len(payments()), upstream_hits()) == (before + 1, hits + 1)
    payment = payments()[-1]
    assert payment["how"] == "lnd"
    assert response.receipt.payment_hash == payment["hash"]
    assert response.receipt.amount_sats == 2 == usual.total_spent()
    # It hands out headers, so that the key for the rest is at hand; the credential itself it keeps.
    usage = json.loads(response.text())["usage"]
    paid["key"] = response.headers["farthing-key"]
    paid["left"] = assert_paid_call(usage, paid["key"], payment["msat"] * NANO_PER_MSAT)


def l402_draws_without_paying():
    before = len(payments())
    response = post(usual, URL, call("And something more."))
    assert (response.status, response.paid, response.cached_token) == (200, False, True), response.text()
    paid["left"] = assert_paid_call(json.loads(response.text())["usage"], paid["key"], paid["left"])
    # It reads an answer before it hands it over, streamed or not.
    streamed = call("A short story, please.", stream=True, stream_options={"include_usage": True})
    response = post(usual, URL, streamed)
    assert response.cached_token and response.text().rstrip().endswith("data: [DONE]"), response.text()
    usage = json.loads(response.text().split("data: ")[-2])["usage"]
    assert_paid_call(usage, paid["key"], paid["left"])
    assert len(payments()) == before


def l402_exhausted_pays_again():
    """A 402 on the credential that it keeps: it throws it away, asks anew without one, and pays."""
    before = len(payments())
    for _ in range(20):
        hits = upstream_hits()
        response = post(usual, URL, call(LONG))
        assert response.status == 200, response.text()
        assert upstream_hits() == hits + 1
        if response.paid:
            break
    assert response.paid and len(payments()) == before + 1, "nothing is ever used up"


def l402_fixed_price_once():
    """It keeps what it paid with, and shows it again: each later call of it is refused as the copy it is."""
    first = post(usual, ONCE_URL, once("Once."))
    assert (first.status, first.paid) == (200, True), first.text()
    hits, before = upstream_hits(), len(payments())
    second = post(usual, ONCE_URL, once("Twice."))
    assert (second.status, second.cached_token) == (403, True), second.text()
    assert (upstream_hits(), len(payments())) == (hits, before)


def l402_budget_stops_it():
    """Its own limits hold: it reads what our invoice asks for."""
    before = len(payments())
    try:
        post(client(per_request_max=1), URL, call("Too dear."))
    except Exception as error:
        assert "budget" in str(error).lower(), repr(error)
    else:
        raise AssertionError("it paid 2 sat with a limit of 1")
    assert len(payments()) == before


def l402_below_a_satoshi():
    """It pays, and counts a whole one."""
    before, sdk = len(payments()), client(per_request_max=1)
    response = post(sdk, CHEAP_URL, CHEAP)
    assert (response.status, response.paid) == (200, True), response.text()
    assert len(payments()) == before + 1 and payments()[-1]["msat"] == 100
    assert sdk.total_spent() == 1


run([
    l402_pays,
    l402_draws_without_paying,
    l402_exhausted_pays_again,
    l402_fixed_price_once,
    l402_budget_stops_it,
    l402_below_a_satoshi,
])
