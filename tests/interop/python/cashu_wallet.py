"""A stock Cashu wallet (Nutshell) before a real mint: it reads the request for payment in our 402, pays it in `X-Cashu`, and
takes out what the gateway holds."""

import asyncio
import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.request

from cashu.core.nuts.nut18 import deserialize as read_request
from cashu.wallet.helpers import deserialize_token_from_string, receive
from cashu.wallet.wallet import Wallet

from harness import assert_balance, balance_nano, cost_nano, env, get, run, until, upstream_hits

# A satoshi at 100,000 USD a bitcoin, in billionths of a dollar.
SAT_NANO = 1_000_000
WALLETS = tempfile.mkdtemp(prefix="wallets-")


async def new_wallet(sats=0):
    """A wallet of its own, with so much in it: the play node of the mint pays every invoice."""
    folder = tempfile.mkdtemp(dir=WALLETS)
    wallet = await Wallet.with_db(url=env("MINT_URL"), db=folder, name="wallet")
    await wallet.load_mint()
    if sats:
        quote = await wallet.request_mint(sats)
        while not (await wallet.get_mint_quote(quote.quote)).paid:
            await asyncio.sleep(0.05)
        await wallet.mint(sats, quote_id=quote.quote)
    await wallet.load_proofs(reload=True)
    return wallet


async def token_of(wallet, sats, **options):
    await wallet.load_proofs(reload=True)
    coins, _ = await wallet.select_to_send(wallet.proofs, sats, set_reserved=True)
    return await wallet.serialize_proofs(coins, **options)


def ask(what="hi"):
    return {"model": "gpt-play", "max_tokens": 8, "messages": [{"role": "user", "content": what}]}


def post(body, headers=None):
    """Status, headers and document of an answer, whatever it is."""
    request = urllib.request.Request(
        env("GATEWAY_URL") + "/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", **(headers or {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, json.load(answer)


def requested():
    """What the 402 asks for, as the wallet's own reader has it. The mint is asked in the background at first."""
    def read():
        status, headers, _ = post(ask())
        assert status == 402, status
        return headers.get("x-cashu")

    request = read_request(until(read, lambda text: text, "nothing is asked for"))
    assert request.u == "sat" and request.m == [env("MINT_URL")], request
    assert not request.t and not request.nut10, request
    return request


def assert_paid(token, sats):
    """Pays with a token; what its mint leaves of it and the call did not take is there. Returns the answer."""
    hits = upstream_hits()
    status, headers, answer = post(ask(), {"x-cashu": token})
    assert status == 200, answer
    assert upstream_hits() == hits + 1
    key = headers["farthing-key"]
    coins = deserialize_token_from_string(token).proofs
    left = sats - (len(coins) * 100 + 999) // 1000
    usage = answer["usage"]
    cost = cost_nano(usage["prompt_tokens"], usage["completion_tokens"])
    assert cost > 0
    assert_balance(key, left * SAT_NANO - cost)
    return answer


def held():
    shown = operator("show")
    return sum(mint["held"] for mint in shown["mints"])


def operator(*words):
    command = [env("FARTHING_BIN"), "cashu", *words, "--json", "--config", env("FARTHING_CONFIG")]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pays():
    """402, X-Cashu, 200: the whole of NUT-24."""
    async def go():
        request = requested()
        wallet = await new_wallet(100)
        before = held()
        assert_paid(await token_of(wallet, request.a), request.a)
        # Asking for two satoshi more than the call needs covers what the mint takes for spending the coins.
        assert request.a == 22 and held() - before in (20, 21), (request.a, held() - before)
    asyncio.run(go())


def pays_with_evidence():
    """A token with the mint's evidence for each coin, for more than was asked."""
    async def go():
        wallet = await new_wallet(100)
        assert_paid(await token_of(wallet, 37, include_dleq=True), 37)
    asyncio.run(go())


def pays_with_an_old_token():
    """Version 3 of the token."""
    async def go():
        wallet = await new_wallet(100)
        token = await token_of(wallet, 32, legacy=True)
        assert token.startswith("cashuA")
        assert_paid(token, 32)
    asyncio.run(go())


def key_spends_change():
    """What is left of a token is reached by the key, without the mint."""
    async def go():
        wallet = await new_wallet(100)
        _, headers, _ = post(ask(), {"x-cashu": await token_of(wallet, 32)})
        key = headers["farthing-key"]
        before = balance_nano(key)
        status, headers, _ = post(ask("more"), {"authorization": f"Bearer {key}"})
        assert status == 200 and "x-cashu" not in headers
        until(lambda: balance_nano(key), lambda now: now < before, "nothing was charged")
    asyncio.run(go())


def replay_is_refused():
    """The same request is told the same; any other gets nothing, and the upstream nothing at all."""
    async def go():
        wallet = await new_wallet(100)
        token = await token_of(wallet, 32)
        answer = assert_paid(token, 32)
        hits = upstream_hits()
        status, headers, again = post(ask(), {"x-cashu": token})
        assert (status, again) == (200, answer) and "farthing-key" not in headers
        status, _, refused = post(ask("something else"), {"x-cashu": token})
        assert (status, refused["code"]) == (403, "verification_failed"), refused
        assert upstream_hits() == hits
    asyncio.run(go())


def double_spend_is_refused():
    """A token that somebody else has received, by then: the mint knows, nothing is served, nothing is kept."""
    async def go():
        payer, other = await new_wallet(100), await new_wallet()
        token = await token_of(payer, 32)
        await receive(other, deserialize_token_from_string(token))
        hits, before = upstream_hits(), held()
        for _ in range(2):
            status, headers, refused = post(ask(), {"x-cashu": token})
            assert (status, refused["code"]) == (402, "settlement_failed"), refused
            assert refused["error"]["reason"] == "token_spent" and refused["money"] == "nothing_taken", refused
            assert headers["x-cashu"].startswith("creqA")
        assert (upstream_hits(), held()) == (hits, before)
    asyncio.run(go())


def spent_at_the_gateway_is_spent():
    """Whoever was paid cannot be paid with the same coins again: the payer's own wallet is refused by the mint."""
    async def go():
        payer, other = await new_wallet(100), await new_wallet()
        token = await token_of(payer, 32)
        assert_paid(token, 32)
        try:
            await receive(other, deserialize_token_from_string(token))
        except Exception as error:
            assert "spent" in str(error), error
        else:
            raise AssertionError("the coins were still good")
    asyncio.run(go())


def too_little_is_400():
    async def go():
        wallet = await new_wallet(100)
        token = await token_of(wallet, 8)
        status, _, refused = post(ask(), {"x-cashu": token})
        assert (status, refused["error"]["reason"]) == (400, "cashu_amount"), refused
        # It is as good as before.
        await receive(await new_wallet(), deserialize_token_from_string(token))
    asyncio.run(go())


def lost_answer_is_restored():
    """The mint has swapped and its answer is lost: the gateway finds its coins again (NUT-09), and asks for no second
    payment."""
    async def go():
        wallet = await new_wallet(100)
        token = await token_of(wallet, 32)
        before, swaps, hits = held(), get(env("MINT_URL") + "/__swaps")["swaps"], upstream_hits()
        urllib.request.urlopen(urllib.request.Request(env("MINT_URL") + "/__lose", b"{}"), timeout=60).close()
        status, headers, refused = post(ask(), {"x-cashu": token})
        assert (status, refused["code"], refused["money"]) == (503, "settlement_unknown", "unknown"), refused
        assert upstream_hits() == hits
        status, _, answer = until(lambda: post(ask(), {"x-cashu": token}), lambda said: said[0] == 200, "not served")
        assert get(env("MINT_URL") + "/__swaps")["swaps"] == swaps + 1, "it was swapped again"
        assert (upstream_hits(), held() - before) == (hits + 1, 31), (held(), before)
    asyncio.run(go())


def held_ecash_is_taken_out():
    """What the gateway holds is money in the operator's own wallet, all of it, once."""
    async def go():
        before = held()
        assert before > 0
        taken = operator("export")
        assert (taken["amount"], taken["unit"], held()) == (before, "sat", 0), taken
        mine = await new_wallet()
        fees = 0
        for token in taken["tokens"]:
            token = deserialize_token_from_string(token)
            fees += (len(token.proofs) * 100 + 999) // 1000
            await receive(mine, token)
        await mine.load_proofs(reload=True)
        assert mine.available_balance.amount == before - fees, (mine.available_balance, before, fees)
        again = operator("export", "--again", taken["export"])
        assert again["tokens"] == taken["tokens"]
    asyncio.run(go())


if __name__ == "__main__":
    os.environ["TOR"] = "FALSE"
    run([
        pays,
        pays_with_evidence,
        pays_with_an_old_token,
        key_spends_change,
        replay_is_refused,
        double_spend_is_refused,
        spent_at_the_gateway_is_spent,
        too_little_is_400,
        lost_answer_is_restored,
        held_ecash_is_taken_out,
    ])
