"""What all scripts that pay with pympp share: play accounts, the chain, and one paid call."""

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field

import httpx
from eth_account import Account
from eth_utils.crypto import keccak
from harness import env, upstream_hits
from mpp import Challenge
from mpp.client import PaymentTransport

CHAIN_ID = 84532
TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
NANO_PER_ATOMIC = 1000
# What a call of a route with a fixed price costs, in billionths of a dollar.
FIXED_NANO = 3_000_000
URL = env("GATEWAY_URL") + "/v1/chat/completions"
ONCE_URL = env("GATEWAY_URL") + "/v1/responses"

# Keys of the mnemonic every development chain starts with: public, worth nothing.
_MNEMONIC = "test test test test test test test test test test test junk"
# The payers of `chain/chain.mjs`: one scenario each.
_CLIENT_PAYERS = [2, 3, 4, 8, 9, *range(10, 45)]
Account.enable_unaudited_hdwallet_features()


def client_payer(number):
    return Account.from_mnemonic(_MNEMONIC, account_path=f"m/44'/60'/0'/0/{_CLIENT_PAYERS[number]}")


def request(content, **more):
    """The body of a request for a chat completion."""
    return {"model": "gpt-play", "max_tokens": 64, "messages": [{"role": "user", "content": content}], **more}


def streamed(content):
    return request(content, stream=True, stream_options={"include_usage": True})


def once(content):
    return {"model": "gpt-play", "input": content}


@dataclass
class Answer:
    """What came back, with when its pieces came, and what the client sent for it."""

    status: int
    headers: httpx.Headers
    sent: list[httpx.Headers]
    arrivals: list[float] = field(default_factory=list)
    body: bytes = b""

    @property
    def receipt(self):
        text = self.headers["payment-receipt"]
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))

    @property
    def usage(self):
        if self.headers["content-type"].startswith("text/event-stream"):
            lines = [line[5:].strip() for line in self.body.decode().splitlines() if line.startswith("data:")]
            assert lines[-1] == "[DONE]", lines[-1]
            return json.loads(lines[-2])["usage"]
        return json.loads(self.body)["usage"]

    @property
    def seconds(self):
        return self.arrivals[-1] - self.arrivals[0]


class _Looking(httpx.AsyncHTTPTransport):
    """Keeps the headers of what is sent."""

    def __init__(self):
        super().__init__()
        self.sent = []

    async def handle_async_request(self, request):
        self.sent.append(request.headers)
        return await super().handle_async_request(request)


def pay(methods, url, body, headers=None):
    """Sends one request with a client that pays when it is asked to."""

    async def send():
        looking = _Looking()
        paying = PaymentTransport(methods=methods, inner=looking)
        async with httpx.AsyncClient(transport=paying, timeout=60) as client:
            async with client.stream("POST", url, json=body, headers=headers) as response:
                answer = Answer(response.status_code, response.headers, looking.sent)
                async for piece in response.aiter_raw():
                    answer.arrivals.append(time.monotonic())
                    answer.body += piece
                return answer

    return asyncio.run(send())


def challenged(url, body, headers=None):
    """The challenges of the Payment scheme in the 402 to an unpaid call, as pympp reads them."""
    hits = upstream_hits()
    response = httpx.post(url, json=body, headers=headers, timeout=60)
    assert response.status_code == 402, response.text
    assert upstream_hits() == hits, "an unpaid call reached the upstream"
    lines = [line for line in response.headers.get_list("www-authenticate") if line.startswith("Payment ")]
    return [Challenge.from_www_authenticate(line) for line in lines]


def of(challenges, method, intent):
    """The challenge of one method and intent."""
    found = [challenge for challenge in challenges if (challenge.method, challenge.intent) == (method, intent)]
    assert len(found) == 1, [f"{challenge.method}/{challenge.intent}" for challenge in challenges]
    return found[0]


def assert_streamed(answer, body):
    """Fails unless output arrived as the upstream sends it."""
    arrivals = []
    with httpx.stream("POST", env("UPSTREAM_URL") + "/v1/chat/completions", json=body, timeout=60) as direct:
        for _ in direct.iter_raw():
            arrivals.append(time.monotonic())
    took = arrivals[-1] - arrivals[0]
    assert took >= 0.02, f"the mock upstream streams for {took} s only: too short to tell"
    assert len(answer.arrivals) > 1, "the answer came in one piece"
    # Not held against the upstream's own time: a machine that stands still for a moment makes one longer or the other shorter.
    assert answer.seconds >= 0.02, f"output arrived within {answer.seconds} s, from the upstream in {took} s"


def _rpc(method, *params):
    answer = httpx.post(env("RPC_URL"), json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, timeout=60).json()
    return answer["result"]


def _topic(address):
    return "0x" + address[2:].lower().rjust(64, "0")


def transfers(payer):
    """What the payer moved to the seller since the chain began: transaction and atomic units, oldest first."""
    topics = [TRANSFER, _topic(payer), _topic(env("PAY_TO"))]
    logs = _rpc("eth_getLogs", {"address": TOKEN, "fromBlock": "0x0", "topics": topics})
    return [(log["transactionHash"], int(log["data"], 16)) for log in logs]
