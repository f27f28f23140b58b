"""A real LNbits makes the gateway's invoices, and another wallet of the same LNbits pays them: settled at once, with
the preimage that its payer gets."""

import json
import urllib.request

import bolt11

from harness import assert_balance, env, run, upstream_hits
from l402_harness import (
    URL,
    assert_paid_call,
    call,
    challenged,
    credit_nano,
    identifier,
    send,
    wrapped,
)

# Pay (again).
REFUSED = 402

paid = {}


def lnbits(key, path, body=None):
    """What LNbits says to one of its keys: status, document."""
    request = urllib.request.Request(env("LNBITS_URL") + path, headers={"x-api-key": env(key)})
    if body is None:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    status, _, text = send(request.full_url, body, {"x-api-key": env(key)})
    return status, json.loads(text)


def pay(invoice, key="LNBITS_PAYER_KEY"):
    status, payment = lnbits(key, "/api/v1/payments", {"out": True, "bolt11": invoice})
    assert status == 201, payment
    return payment["preimage"]


def has_msat(key):
    return lnbits(key, "/api/v1/wallet")[1]["balance"]


def show(token, preimage, content):
    return send(URL, call(content), {"authorization": f"L402 {token}:{preimage}"})


def lnbits_invoice_is_what_was_offered():
    token, text = challenged(URL, call("What does it cost?"))
    invoice = bolt11.decode(text)
    assert invoice.currency == "bc", "its play money has invoices of the main network"
    assert invoice.payment_hash == identifier(token)[2:34].hex()
    # Whole satoshis, and what the token is good for covers them.
    assert invoice.amount_msat == 2000 == int.from_bytes(identifier(token)[46:54], "big")
    assert credit_nano(token) == 2_000_000


def lnbits_payment_opens_calls():
    token, invoice = challenged(URL, call("Say something short."))
    before, hits = has_msat("LNBITS_INVOICE_KEY"), upstream_hits()
    preimage = pay(invoice)
    assert has_msat("LNBITS_INVOICE_KEY") == before + 2000
    status, headers, text = show(token, preimage, "Say something short.")
    assert status == 200, text
    credential = f"L402 {token}:{preimage}"
    left = assert_paid_call(json.loads(text)["usage"], credential, credit_nano(token))
    assert headers["farthing-key"].startswith("fk_live_")
    status, _, text = send(URL, call("And more."), {"authorization": f"Bearer {wrapped(token, preimage)}"})
    assert status == 200, text
    left = assert_paid_call(json.loads(text)["usage"], credential, left)
    assert_balance(headers["farthing-key"], left)
    assert upstream_hits() == hits + 2
    paid.update(token=token, preimage=preimage, invoice=invoice)


def lnbits_leaked_preimage_opens_nothing():
    """LNbits tells the preimage of an unpaid invoice to whoever has the wallet's key. This gateway is strict: what the
    node has not called settled is not paid."""
    token, invoice = challenged(URL, call("For nothing."))
    payment_hash = identifier(token)[2:34].hex()
    _, told = lnbits("LNBITS_INVOICE_KEY", f"/api/v1/payments/{payment_hash}")
    preimage = told["details"]["preimage"]
    assert not told["paid"] and len(preimage) == 64, told
    hits = upstream_hits()
    status, _, text = show(token, preimage, "For nothing.")
    error = json.loads(text)["error"]
    assert (status, error["code"], error["reason"]) == (REFUSED, "proof_invalid", "not_settled"), text
    assert upstream_hits() == hits, "what nobody paid for was served"
    # Paid after all, the same credential is good.
    assert pay(invoice) == preimage
    status, _, text = show(token, preimage, "For nothing.")
    assert status == 200, text


def lnbits_payment_is_for_one_token():
    """The preimage of one invoice opens no other."""
    token, _ = challenged(URL, call("Another one."))
    hits = upstream_hits()
    status, _, text = show(token, paid["preimage"], "Another one.")
    assert status == REFUSED, text
    assert upstream_hits() == hits


def lnbits_refund_to_itself_is_refused():
    """All wallets of one LNbits are one node, and a node that pays itself moves nothing that others could see."""
    dear = call("Say something short.", max_tokens=100_000)
    token, invoice = challenged(URL, dear)
    credential = f"L402 {token}:{pay(invoice)}"
    status, _, text = send(URL, dear, {"authorization": credential})
    assert status == 200, text
    left = assert_paid_call(json.loads(text)["usage"], credential, credit_nano(token))

    back = {"out": False, "unit": "sat", "amount": 300, "memo": "back", "expiry": 600}
    status, made = lnbits("LNBITS_PAYER_KEY", "/api/v1/payments", back)
    assert status == 201, made
    before = has_msat("LNBITS_PAYER_KEY")
    refund = env("GATEWAY_URL") + "/farthing/refund"
    status, _, text = send(refund, {"invoice": made["bolt11"]}, {"authorization": credential})
    error = json.loads(text)["error"]
    assert (400 <= status < 500, error["reason"]) == (True, "invoice_of_ours"), text
    assert has_msat("LNBITS_PAYER_KEY") == before
    assert_balance(credential, left)


run([
    lnbits_invoice_is_what_was_offered,
    lnbits_payment_opens_calls,
    lnbits_leaked_preimage_opens_nothing,
    lnbits_payment_is_for_one_token,
    lnbits_refund_to_itself_is_refused,
])
