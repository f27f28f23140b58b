"""What libraries of others say of our invoices and tokens: bolt11 and pymacaroons, unmodified."""

import base64
import json
import time

import bolt11
from pymacaroons import Macaroon
from pymacaroons.serializers import BinarySerializer

from harness import assert_balance, run, upstream_hits
from l402_harness import (
    NANO_PER_MSAT,
    URL,
    assert_paid_call,
    call,
    challenged,
    credit_nano,
    identifier,
    pay_invoice,
    send,
)

EXPIRY_SECONDS = 300

paid = {}


def bolt11_reads_our_invoice():
    now = int(time.time())
    token, text = challenged(URL, call("What does it cost?"))
    invoice = bolt11.decode(text, strict=True)
    assert invoice.currency == "bcrt"
    assert invoice.has_payment_hash and invoice.payment_hash == identifier(token)[2:34].hex()
    assert invoice.amount_msat == -(-credit_nano(token) // NANO_PER_MSAT)
    assert invoice.amount_msat == int.from_bytes(identifier(token)[46:54], "big")
    assert invoice.expiry == EXPIRY_SECONDS and abs(invoice.date - now) <= 5
    # Not the hash of a description, which clients cannot show; and no word of what was asked.
    assert invoice.description and "cost" not in invoice.description
    assert len(bytes.fromhex(invoice.payment_secret)) == 32
    assert len(bytes.fromhex(invoice.payee)) == 33


def read(token):
    return Macaroon.deserialize(token)


def written(macaroon):
    """In version 2, which is the only one that we take; in the alphabet of URLs, without padding."""
    return BinarySerializer().serialize(macaroon)


def shown(macaroon):
    return f"L402 {written(macaroon)}:{paid['preimage']}"


def ask(credential, content="May I?"):
    return send(URL, call(content), {"authorization": credential})


def paid_for(credential, content):
    status, _, text = ask(credential, content)
    assert status == 200, text
    # They all spend one balance.
    paid["left"] = assert_paid_call(json.loads(text)["usage"], whole(), paid["left"])


def whole():
    """The credential as it was bought."""
    return f"L402 {paid['token']}:{paid['preimage']}"


def refused(macaroon, expected):
    hits = upstream_hits()
    status, _, text = ask(shown(macaroon))
    assert status == expected, text
    assert upstream_hits() == hits


def pymacaroons_reads_our_token():
    token, invoice = challenged(URL, call("Just to pay."))
    paid.update(token=token, preimage=pay_invoice(invoice), left=credit_nano(token))
    macaroon = read(token)
    assert macaroon.identifier_bytes == identifier(token)
    assert macaroon.caveats[0].caveat_id_bytes == b"services=farthing:0"
    assert macaroon.location == "lsat"


def narrowed(*caveats):
    macaroon = read(paid["token"])
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return macaroon


def pymacaroons_narrows_offline():
    now = int(time.time())
    soon = narrowed(f"expires={now + 600}", f"farthing_valid_until={now + 300}", "models=gpt-*")
    paid_for(shown(soon), "In time.")
    # Another reading of the same token: what stands where its location was is nobody's business.
    moved = narrowed()
    moved.location = ""
    assert base64.urlsafe_b64decode(written(moved) + "==") != base64.b64decode(paid["token"])
    paid_for(shown(moved), "The same money.")


def pymacaroons_caveat_forbids():
    now = int(time.time())
    refused(narrowed(f"expires={now - 1}"), 402)
    refused(narrowed("models=other-*"), 403)
    refused(narrowed("colour=blue"), 403)
    refused(narrowed(f"expires={now + 60}", f"expires={now + 61}"), 402)
    refused(narrowed("services=farthing:1"), 402)
    assert_balance(whole(), paid["left"])


run([
    bolt11_reads_our_invoice,
    pymacaroons_reads_our_token,
    pymacaroons_narrows_offline,
    pymacaroons_caveat_forbids,
])
