"""Runs the scenarios of one client and tells their outcome, one line each: `pass NAME` or
`fail NAME reason`. Plus what all clients assert about money."""

import faulthandler
import json
import os
import sys
import time
import traceback
import urllib.request

SCENARIO_SECONDS_MAX = 20


def env(name):
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is not set")
    return value


def run(scenarios):
    """Runs those of `scenarios` that the arguments name, in order; all without arguments."""
    wanted = sys.argv[1:]
    for scenario in scenarios:
        name = scenario.__name__.replace("_", "-")
        if wanted and name not in wanted:
            continue
        # A scenario that hangs ends the process with its stack: the runner counts the rest as failed.
        faulthandler.dump_traceback_later(SCENARIO_SECONDS_MAX, exit=True)
        try:
            scenario()
            print(f"pass {name}", flush=True)
        except Exception as error:
            print(f"--- {name}", file=sys.stderr)
            traceback.print_exc()
            reason = " ".join(f"{type(error).__name__} {error}".split())
            print(f"fail {name} {reason}", flush=True)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _get(url, headers=None):
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def upstream_hits():
    """Completions the upstream has served so far."""
    return _get(env("UPSTREAM_URL") + "/__hits")["requests"]


def balance_nano(key):
    """The balance of a credit key in billionths of a dollar, once no call of it is open any more.

    A stream is captured when the upstream ends it, which an SDK that stops at `[DONE]` does not wait for.
    """
    def read():
        return _get(env("GATEWAY_URL") + "/farthing/balance", {"authorization": f"Bearer {key}"})

    body = _until(read, lambda body: nano(body["held"]["amount"]) == 0, "a hold stays open")
    return nano(body["balance"]["amount"])


def nano(decimal):
    """"0.0021" -> 2100000. Decimal text only: a number would already have been rounded."""
    whole, _, fraction = decimal.partition(".")
    assert len(fraction) <= 9, decimal
    return int(whole) * 10**9 + int(fraction.ljust(9, "0"))


def cost_nano(input_tokens, output_tokens):
    """What a call costs at the prices of the gateway under test: 1 and 4 USD per million tokens."""
    return input_tokens * 1000 + output_tokens * 4000


def assert_balance(key, expected):
    """Waits until the balance is what it should be: a stream is captured just after its last byte."""
    _until(lambda: balance_nano(key), lambda balance: balance == expected, f"expected {expected}")


def assert_charged(key, before):
    """Waits until the balance is below `before`."""
    _until(lambda: balance_nano(key), lambda balance: balance < before, "nothing was charged")


def _until(read, good, complaint):
    deadline = time.monotonic() + 5
    while not good(value := read()):
        assert time.monotonic() < deadline, f"{value}: {complaint}"
        time.sleep(0.025)
    return value
