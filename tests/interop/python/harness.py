"""Runs the scenarios of one client and tells their outcome, one line each: `pass NAME` or
`fail NAME reason`. Plus what all clients assert about money."""

import faulthandler
import json
import os
import re
import socket
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request

# Far more than any takes: it ends one that hangs.
SCENARIO_SECONDS_MAX = 120


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


def get(url, headers=None):
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def upstream_hits():
    """Completions the upstream has served so far."""
    return get(env("UPSTREAM_URL") + "/__hits")["requests"]


def authorization(key):
    """The header that shows a credit key, or that credential itself."""
    return key if " " in key else f"Bearer {key}"


def balance_nano(key):
    """The balance of a credit key, or of another credential (`L402 ...`), in billionths of a dollar, once no call of it
    is open any more.

    A stream is captured when the upstream ends it, which an SDK that stops at `[DONE]` does not wait for.
    """
    def read():
        return get(env("GATEWAY_URL") + "/farthing/balance", {"authorization": authorization(key)})

    body = until(read, lambda body: nano(body["held"]["amount"]) == 0, "a hold stays open")
    return nano(body["balance"]["amount"])


def nano(decimal):
    """"0.0021" -> 2100000. Decimal text only: a number would already have been rounded. Below zero is who was served on
    a promise (`upto`) that is not settled yet."""
    whole, _, fraction = decimal.removeprefix("-").partition(".")
    assert len(fraction) <= 9, decimal
    amount = int(whole) * 10**9 + int(fraction.ljust(9, "0"))
    return -amount if decimal.startswith("-") else amount


def cost_nano(input_tokens, output_tokens):
    """What a call costs at the prices of the gateway under test: 1 and 4 USD per million tokens."""
    return input_tokens * 1000 + output_tokens * 4000


def assert_balance(key, expected):
    """Waits until the balance is what it should be: a stream is captured just after its last byte."""
    until(lambda: balance_nano(key), lambda balance: balance == expected, f"expected {expected}")


def assert_charged(key, before):
    """Waits until the balance is below `before`."""
    until(lambda: balance_nano(key), lambda balance: balance < before, "nothing was charged")


def until(read, good, complaint):
    deadline = time.monotonic() + 60
    while not good(value := read()):
        assert time.monotonic() < deadline, f"{value}: {complaint}"
        time.sleep(0.025)
    return value


class BreakingLine:
    """A way to the gateway that breaks once, halfway through the first answer. The gateway has then done and
    charged everything; only the client does not know."""

    def __enter__(self):
        self.tries = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._carry(client)

    def _carry(self, client):
        request = b""
        while b"\r\n\r\n" not in request:
            request += client.recv(65536)
        head, body = request.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?im)^content-length: *(\d+)", head)[1])
        while len(body) < length:
            body += client.recv(65536)
        self.tries.append(re.search(rb"(?im)^x-stainless-retry-count: *(\d+)", head)[1].decode())
        gateway = urllib.parse.urlsplit(env("GATEWAY_URL")).netloc
        # The gateway closes after its answer, so that the end of it is the end of the connection.
        head = re.sub(rb"(?im)^(host|connection):[^\r]*\r\n", b"", head)
        line, fields = head.split(b"\r\n", 1)
        ours = f"host: {gateway}\r\nconnection: close\r\n".encode()
        host, port = gateway.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as upstream:
            upstream.sendall(line + b"\r\n" + ours + fields + b"\r\n\r\n" + body)
            answer = b""
            while piece := upstream.recv(65536):
                answer += piece
        client.sendall(answer[: len(answer) - 20] if len(self.tries) == 1 else answer)
