"""pympp pays by vouchers on a channel of Tempo's, with a method of ours: it has none for sessions itself."""

import asyncio
import json

import httpx
from harness import cost_nano, env, run, upstream_hits
from mpp.client import PaymentTransport
from mpp_methods import Session, channel_state, closed, compact, events, tempo_payer, told, twin

URL = env("GATEWAY_URL") + "/v1/chat/completions"
NANO_PER_UNIT = 1000


def request(content, **more):
    """The body of a request for a chat completion."""
    return {"model": "gpt-play", "max_tokens": 16, "messages": [{"role": "user", "content": content}], **more}


def streamed(content):
    return request(content, max_tokens=64, stream=True, stream_options={"include_usage": True})


def units(nano):
    return -(-nano // NANO_PER_UNIT)


def cost(usage):
    return cost_nano(usage["prompt_tokens"], usage["completion_tokens"])


def call(session, body):
    """Sends one call with a client that pays when it is asked to. While an answer waits, it is vouched for."""

    async def send():
        transport = PaymentTransport(methods=[session.method])
        async with httpx.AsyncClient(transport=transport, timeout=60) as client:
            async with client.stream("POST", URL, json=body) as response:
                lines = []
                async for line in response.aiter_lines():
                    lines.append(line)
                    if len(lines) > 2 and not line and lines[-3] == "event: payment-need-voucher":
                        await asyncio.to_thread(vouch, session, json.loads(lines[-2][5:]))
                return response, lines

    return asyncio.run(send())


def vouch(session, need):
    assert need["channelId"] == session.id
    answer = session.send(URL, session.voucher("voucher", int(need["requiredCumulative"])))
    assert answer.status_code == 200, answer.text


def closes_exactly(session, spent_nano):
    """Closes, and fails unless the seller took what was used and not a millionth more."""
    _, deposit, _ = channel_state(session.id)
    answer = session.send(URL, session.voucher("close", session.cumulative))
    assert answer.status_code == 200, answer.text
    assert closed(session.id) == (units(spent_nano), deposit - units(spent_nano))
    assert channel_state(session.id) == (0, 0, 0)
    # The same again is told the same.
    again = session.send(URL, session.voucher("close", session.cumulative))
    assert again.status_code in (200, 410), again.text
    return answer


def session_pays_and_closes():
    session = Session(tempo_payer(7))
    hits, spent = upstream_hits(), 0
    for content in ("The first.", "The second."):
        response, lines = call(session, request(content))
        assert response.status_code == 200, lines
        spent += cost(json.loads("".join(lines))["usage"])
    assert upstream_hits() == hits + 2
    closes_exactly(session, spent)


def session_streams_with_vouchers():
    session = Session(tempo_payer(8))
    body = streamed("Word by word, and paid word by word.")
    response, lines = call(session, body)
    assert response.status_code == 200, lines
    found = list(events([*lines, ""]))
    assert sum(name == "payment-need-voucher" for name, _ in found) > 1, "nothing had to be vouched for on the way"
    chunks = [json.loads(data) for name, data in found if name == "message" and data != "[DONE]"]
    receipts = [json.loads(data) for name, data in found if name == "payment-receipt"]
    assert found[-1] == ("message", "[DONE]") and found[-2][0] == "payment-receipt"
    spent = cost(chunks[-1]["usage"])
    assert [int(receipt["spent"]) for receipt in receipts] == [units(spent)]
    direct = httpx.post(env("UPSTREAM_URL") + "/v1/chat/completions", json=body, timeout=60).text.splitlines()
    expected = [json.loads(data) for _, data in events([*direct, ""]) if data != "[DONE]"]
    text = [chunk["choices"][0]["delta"].get("content", "") if chunk["choices"] else "" for chunk in chunks]
    assert "".join(text) == "".join(
        chunk["choices"][0]["delta"].get("content", "") if chunk["choices"] else "" for chunk in expected
    )
    closes_exactly(session, spent)


def session_refuses():
    """What is no promise of this payer for this channel, or none that is new, takes nothing and opens nothing."""
    session = Session(tempo_payer(9))
    response, lines = call(session, request("Before anything is tried."))
    assert response.status_code == 200, lines
    spent = cost(json.loads("".join(lines))["usage"])
    accepted, hits = session.cumulative, upstream_hits()
    _, deposit, _ = channel_state(session.id)
    rows = [
        ("by another key", session.voucher("voucher", accepted + 1, account=tempo_payer(0)), 402, "session/signer-mismatch"),
        ("with a large s", session.voucher("voucher", accepted + 1, shape=twin), 402, "session/invalid-signature"),
        ("above the deposit", session.voucher("voucher", deposit + 1, kept=True), 402, "session/amount-exceeds-deposit"),
        ("that takes back", session.voucher("voucher", accepted - 1, kept=True), 402, "session/delta-too-small"),
        ("closed by another", session.voucher("close", accepted, account=tempo_payer(0)), 402, "session/signer-mismatch"),
        ("of no channel", {**session.voucher("voucher", accepted + 1, kept=True), "channelId": "0x" + "11" * 32}, 402, None),
        ("of another payee", _elsewhere(session, accepted + 1), 402, None),
    ]
    for name, payload, status, problem in rows:
        answer = session.send(URL, payload)
        assert answer.status_code == status, (name, answer.status_code, answer.text)
        assert problem is None or told(answer) == problem, (name, told(answer))
    assert upstream_hits() == hits
    # In 64 bytes a signature is good, and says the same.
    answer = session.send(URL, session.voucher("voucher", accepted + 1, shape=compact))
    assert answer.status_code == 200, answer.text
    session.cumulative = accepted + 1
    answer = session.send(URL, session.top_up(50))
    assert answer.status_code == 200, answer.text
    assert channel_state(session.id)[1] == deposit + 50
    closes_exactly(session, spent)
    late = session.send(URL, session.voucher("voucher", session.cumulative + 1))
    assert (late.status_code, told(late)) == (410, "session/channel-finalized"), late.text


def _elsewhere(session, cumulative):
    payload = session.voucher("voucher", cumulative, kept=True)
    return {**payload, "descriptor": {**session.descriptor, "payee": session.account.address}}


run([session_pays_and_closes, session_streams_with_vouchers, session_refuses])
