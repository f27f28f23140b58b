"""The unmodified pympp pays for calls over httpx by its `evm` method, on a local chain."""

import asyncio
import json

import httpx
from harness import assert_balance, cost_nano, run, upstream_hits
from mpp import Credential
from mpp.client import PaymentTransport
from mpp.methods.evm import BASE_SEPOLIA_USDC
from mpp.methods.evm import client as evm
from mpp_harness import (
    NANO_PER_ATOMIC,
    ONCE_URL,
    URL,
    assert_streamed,
    challenged,
    client_payer,
    of,
    once,
    pay,
    request,
    streamed,
    transfers,
)

COPIES = 64


def method(account, **more):
    return evm.charge(currency=BASE_SEPOLIA_USDC, account=account, **more)


def assert_paid(answer, account, amount):
    """Fails unless this answer was paid for once, and charged exactly."""
    assert answer.status == 200, answer.body
    receipt = answer.receipt
    assert (receipt["method"], receipt["status"]) == ("evm", "success"), receipt
    assert transfers(account.address) == [(receipt["reference"], amount)]
    usage = answer.usage
    left = amount * NANO_PER_ATOMIC - cost_nano(usage["prompt_tokens"], usage["completion_tokens"])
    assert_balance(answer.headers["farthing-key"], left)


def charge_pays():
    account, body = client_payer(21), request("From another language.")
    amount = int(of(challenged(URL, body, {"accept-payment": "evm/charge"}), "evm", "charge").request["amount"])
    hits = upstream_hits()
    answer = pay([method(account)], URL, body)
    assert [sent["accept-payment"] for sent in answer.sent] == ["evm/charge"] * 2
    assert answer.sent[1]["authorization"].startswith("Payment ")
    assert_paid(answer, account, amount)
    assert upstream_hits() == hits + 1


def charge_pays_and_streams():
    account, body = client_payer(22), streamed("From another language, word by word.")
    amount = int(of(challenged(URL, body), "evm", "charge").request["amount"])
    answer = pay([method(account)], URL, body)
    assert_paid(answer, account, amount)
    assert_streamed(answer, body)


def charge_beside_a_foreign_key():
    account, body = client_payer(23), request("Beside a key.")
    answer = pay([method(account)], URL, body, {"authorization": "Bearer sk-of-somebody-else"})
    assert answer.status == 200, answer.body
    assert answer.sent[1]["authorization"] == "Bearer sk-of-somebody-else"
    assert answer.sent[1]["payment-authorization"].startswith("Payment ")
    assert len(transfers(account.address)) == 1


def charge_limit_stops_it():
    """Its own limit holds: it reads what our challenge asks for."""
    account = client_payer(23)
    moved, hits = len(transfers(account.address)), upstream_hits()
    answer = pay([method(account, max_amount="0.000001")], URL, request("Too dear."))
    assert (answer.status, len(answer.sent)) == (402, 1)
    assert (len(transfers(account.address)), upstream_hits()) == (moved, hits)


def charge_sent_64_times():
    account, body = client_payer(24), once("One payment, many copies.")
    challenge = of(challenged(ONCE_URL, body), "evm", "charge")

    async def send_all():
        runtime = PaymentTransport(methods=[method(account)])._runtime
        credential = await runtime.create_credential(challenge, runtime.methods[0])
        assert Credential.from_authorization(credential.to_authorization()) == credential
        headers = {"authorization": credential.to_authorization()}
        limits = httpx.Limits(max_connections=COPIES)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            answers = await asyncio.gather(*(client.post(ONCE_URL, json=body, headers=headers) for _ in range(COPIES)))
            return answers, await client.post(ONCE_URL, json=once("Another question."), headers=headers)

    hits = upstream_hits()
    answers, other = asyncio.run(send_all())
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200 and set(statuses) <= {200, 409}, statuses
    assert len({answer.text for answer in answers if answer.status_code == 200}) == 1
    assert upstream_hits() == hits + 1
    assert len(transfers(account.address)) == 1
    assert other.status_code == 403 and "www-authenticate" not in other.headers, other.text
    assert json.loads(other.text)["type"] == "https://paymentauth.org/problems/verification-failed"


run([charge_pays, charge_pays_and_streams, charge_beside_a_foreign_key, charge_limit_stops_it, charge_sent_64_times])
