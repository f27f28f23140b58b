"""What all clients that pay by L402 ask and look at here, whatever package they pay with."""

import base64
import json
import re
import urllib.error
import urllib.request

from harness import assert_balance, cost_nano, env, get, upstream_hits

URL = env("GATEWAY_URL") + "/v1/chat/completions"
# A call that costs the same whatever it uses.
ONCE_URL = env("GATEWAY_URL") + "/v1/responses"
# One that costs less than a satoshi.
CHEAP_URL = env("GATEWAY_URL") + "/api/generate"
CHEAP = {"model": "gpt-play", "prompt": "Cheap.", "stream": False}
# What the LND interface of the wallet wants to see: a test key, worth nothing.
MACAROON = "0201036c6e64"
# A bitcoin costs 100,000 USD here: so many billionths of a dollar are a millisatoshi.
NANO_PER_MSAT = 1000
# A prompt of a fifth of what a fresh token is good for.
LONG = "more " * 400

# The only form that every known client can read (specs/l402.md).
CHALLENGE = re.compile(
    r'L402 macaroon="([A-Za-z0-9+/]+={0,2})", invoice="(lnbc[a-z0-9]+)", version="0", token="([A-Za-z0-9+/]+={0,2})"'
)


def call(content, **more):
    """The body of a request for a chat completion."""
    return {"model": "gpt-play", "max_tokens": 64, "messages": [{"role": "user", "content": content}], **more}


def once(content):
    return {"model": "gpt-play", "input": content}


def send(url, body, headers=None):
    """A POST on a connection of its own: status, headers, text."""
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers or {})
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def challenged(url, body):
    """Token and invoice of an unpaid call, which must not have reached the upstream."""
    hits = upstream_hits()
    status, headers, text = send(url, body)
    assert status == 402, text
    first = headers.get_all("www-authenticate")[0]
    found = CHALLENGE.fullmatch(first)
    assert found and found[1] == found[3], first
    assert upstream_hits() == hits, "an unpaid call reached the upstream"
    return found[1], found[2]


def pay_invoice(invoice):
    """Pays an invoice of the test node."""
    status, _, text = send(env("WALLET_URL") + "/pay", {"invoice": invoice})
    assert status == 200, text
    return json.loads(text)["preimage"]


def payments():
    """What the wallet has paid so far, oldest first."""
    return get(env("WALLET_URL") + "/__calls")


def wrapped(token, preimage):
    """The form of a credential that an SDK takes as its API key."""
    return "l402_" + base64.urlsafe_b64encode(base64.b64decode(token)).decode().rstrip("=") + "." + preimage


def identifier(token):
    """The 66 bytes that name payment, credit and invoice amount, where no holder can change them."""
    data = base64.b64decode(token)
    start = data.index(bytes([2, 66])) + 2
    return data[start : start + 66]


def credit_nano(token):
    """What a token is good for, in billionths of a dollar."""
    return int.from_bytes(identifier(token)[38:46], "big", signed=True)


def assert_paid_call(usage, credential, before):
    """Fails unless a call of this usage was charged exactly. Returns what is left."""
    left = before - cost_nano(usage["prompt_tokens"], usage["completion_tokens"])
    assert_balance(credential, left)
    return left
