"""Holder proofs made by pyca/cryptography open a key that is bound to its holder, and nothing else does."""

import json
import subprocess
import time
import urllib.error
import urllib.request

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness import assert_balance, balance_nano, cost_nano, env, run, upstream_hits
from holder_proofs import FILE, SECRET, Case, b64url, judge

KEY = env("FARTHING_KEY")
URL = env("GATEWAY_URL") + "/v1/chat/completions"
HOLDER = Ed25519PrivateKey.from_private_bytes(SECRET)
BODY = json.dumps({"model": "gpt-play", "max_tokens": 64, "messages": [{"role": "user", "content": "Mine?"}]})

nonces = iter(range(1, 1000))


def bound():
    """The key, bound by our own command, which has nothing but the key."""
    x = b64url(HOLDER.public_key().public_bytes_raw())
    made = subprocess.run(
        [env("FARTHING_BIN"), "key", "attenuate", "--holder", x], input=KEY, env={}, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def shown(field="authorization"):
    key = bound()
    value = f"Bearer {key}" if field == "authorization" else key
    return Case("live", "good", url=URL, body=BODY, field=field, value=value)


def signed(case, **more):
    return case.sign(created=int(time.time()), lasts=45, nonce=f"py-{time.time_ns()}-{next(nonces)}", **more)


def send(case):
    headers = {"content-type": "application/json", **case.headers}
    request = urllib.request.Request(case.url, data=case.body.encode(), headers=headers, method=case.method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def served(case):
    """Sent again while the gateway says that it has just begun."""
    for _ in range(10):
        status, text = send(signed(case()))
        if status != 401 or "signed_before_restart" not in text:
            break
        time.sleep(0.5)
    assert status == 200, text
    return json.loads(text)["usage"]


def refused(case, code):
    hits = upstream_hits()
    status, text = send(case)
    assert (status, json.loads(text)["code"]) == (401, code), text
    assert upstream_hits() == hits


def pyca_judges_our_vectors_alike():
    cases = json.loads(FILE.read_text())["cases"]
    assert len(cases) > 20
    for case in cases:
        assert judge(case, HOLDER) == case["verdict"], case["name"]


def pyca_signs_for_a_bound_key():
    for field in ("authorization", "x-api-key"):
        before = balance_nano(KEY)
        usage = served(lambda: shown(field))
        assert_balance(KEY, before - cost_nano(usage["prompt_tokens"], usage["completion_tokens"]))


def a_bound_key_opens_nothing_else():
    served(shown)
    refused(shown(), "holder_proof_missing")
    refused(signed(shown(), secret=bytes(range(32))), "holder_proof_invalid")
    refused(signed(shown()).then(body=BODY.replace("Mine", "Yours")), "holder_proof_invalid")
    refused(signed(shown(), without=["authorization"]), "holder_proof_invalid")


run([
    pyca_judges_our_vectors_alike,
    pyca_signs_for_a_bound_key,
    a_bound_key_opens_nothing_else,
])
