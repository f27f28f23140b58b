"""The unmodified pymacaroons narrows our credit keys, and reads and narrows those that `farthing key attenuate` made."""

import json
import subprocess
import time

from pymacaroons import Macaroon
from pymacaroons.serializers import BinarySerializer

from harness import assert_balance, balance_nano, cost_nano, env, get, run, upstream_hits
from l402_harness import URL, call, send

PREFIX = "fk_test_"
KEY = env("FARTHING_KEY")


def asset():
    """What the key's account holds: amounts in its caveats must be in it."""
    body = get(env("GATEWAY_URL") + "/farthing/balance", {"authorization": f"Bearer {KEY}"})
    return body["balance"]["currency"]


def read(key):
    return Macaroon.deserialize(key[len(PREFIX) :])


def caveats(key):
    return [caveat.caveat_id_bytes.decode() for caveat in read(key).caveats]


def narrowed(key, *more):
    """A weaker key, by the foreign library alone, which writes the alphabet of URLs without padding."""
    macaroon = read(key)
    for caveat in more:
        macaroon.add_first_party_caveat(caveat)
    text = BinarySerializer().serialize(macaroon)
    return PREFIX + (text.decode() if isinstance(text, bytes) else text)


def attenuated(key, *words):
    """A weaker key, by our command, which has nothing but the key."""
    made = subprocess.run(
        [env("FARTHING_BIN"), "key", "attenuate", *words], input=key, env={}, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def served(key):
    before = balance_nano(KEY)
    status, _, text = send(URL, call("May I?"), {"authorization": f"Bearer {key}"})
    assert status == 200, text
    usage = json.loads(text)["usage"]
    assert_balance(KEY, before - cost_nano(usage["prompt_tokens"], usage["completion_tokens"]))


def refused(key, expected, code):
    hits = upstream_hits()
    status, _, text = send(URL, call("May I?"), {"authorization": f"Bearer {key}"})
    assert (status, json.loads(text)["code"]) == (expected, code), text
    assert upstream_hits() == hits


def pymacaroons_narrows_our_key():
    now = int(time.time())
    assert read(KEY).identifier_bytes[:2] == b"FK"
    child = narrowed(KEY, f"expires={now + 600}", "models=gpt-*", f"budget=py:{asset()}:900000000")
    served(child)
    refused(narrowed(child, "models=gpt-9"), 403, "key_forbidden")
    refused(narrowed(child, f"expires={now - 1}"), 401, "key_expired")


def pymacaroons_narrows_what_we_narrowed():
    child = attenuated(KEY, "--models", "gpt-*", "--not-before", "@1700000000", "--budget", f"mine=0.5 {asset()}")
    assert "models=gpt-*" in caveats(child) and "not_before=1700000000" in caveats(child), caveats(child)
    served(narrowed(child, "models=gpt-play"))
    refused(narrowed(child, "not_before=1600000000"), 401, "key_unknown")


def we_narrow_what_pymacaroons_narrowed():
    child = narrowed(KEY, "models=gpt-*")
    grandchild = attenuated(child, "--models", "gpt-play", "--max-call", f"0.01 {asset()}")
    assert caveats(grandchild)[0] == "models=gpt-*"
    served(grandchild)


def pymacaroons_signs_the_same_chain():
    """The same caveats give the same signature, whoever adds them."""
    budget = f"0.25 {asset()}"
    ours = attenuated(KEY, "--budget", f"b={budget}", "--models", "gpt-*")
    theirs = narrowed(KEY, *caveats(ours))
    assert read(ours).signature == read(theirs).signature


run([
    pymacaroons_narrows_our_key,
    pymacaroons_narrows_what_we_narrowed,
    we_narrow_what_pymacaroons_narrowed,
    pymacaroons_signs_the_same_chain,
])
