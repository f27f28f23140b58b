"""Of the clients before one route and one 402: the unmodified l402sdk of Lightning Labs, and the SDK of OpenAI."""

import http.client
import json
import multiprocessing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from urllib.parse import urlsplit

import httpx
from l402 import L402Client
from openai import OpenAI

from harness import assert_balance, balance_nano, cost_nano, env, run
from l402_harness import MACAROON, NANO_PER_MSAT, assert_paid_call, call, payments

GATEWAY = env("GATEWAY_URL")


class Counting:
    """A way to the gateway on which requests are counted, for a client that does not say. In a process of its own: that
    client lets no other thread of Python run while it waits."""

    def __enter__(self):
        self._count = count = multiprocessing.Value("i", 0)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                with count.get_lock():
                    count.value += 1
                body = self.rfile.read(int(self.headers["content-length"]))
                gateway = http.client.HTTPConnection(urlsplit(GATEWAY).netloc)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                gateway.request("POST", self.path, body, headers)
                answer = gateway.getresponse()
                told = answer.read()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)
                gateway.close()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
        self._process.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        return self

    def __exit__(self, *_):
        self._process.kill()

    @property
    def requests(self):
        return self._count.value


def row(name, way, requests, result):
    """Tells a line of the table in README.md."""
    print(f"row `{name}` (Python) | {version(name)} | {way} | {requests} | {result}", flush=True)


def l402sdk_pays():
    before = len(payments())
    with Counting() as line:
        sdk = L402Client.with_lnd_rest(env("WALLET_URL"), MACAROON)
        response = sdk.post(f"{line.url}/v1/chat/completions", json.dumps(call("What do you take?")))
    assert (response.status, response.paid) == (200, True), response.text()
    [payment] = payments()[before:]
    usage = json.loads(response.text())["usage"]
    assert_paid_call(usage, response.headers["farthing-key"], payment["msat"] * NANO_PER_MSAT)
    row("l402sdk", "L402", line.requests, "200, one invoice paid")


def openai_spends_credit():
    key = env("FARTHING_KEY")
    before, sent = balance_nano(key), []
    looking = httpx.Client(event_hooks={"request": [sent.append]})
    sdk = OpenAI(base_url=f"{GATEWAY}/v1", api_key=key, http_client=looking)
    usage = sdk.chat.completions.create(**call("What do you take?")).usage
    assert_balance(key, before - cost_nano(usage.prompt_tokens, usage.completion_tokens))
    row("openai", "a credit key, as its API key", len(sent), "200, the balance drawn on")


run([l402sdk_pays, openai_spends_credit])
