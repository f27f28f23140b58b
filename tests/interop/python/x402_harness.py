"""What all scripts that pay by the Python x402 package share: play accounts, the chain, and one paid call."""

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from eth_account import Account
from harness import env, get
from web3 import Web3
from x402.http.clients import x402AsyncTransport
from x402.http.utils import decode_payment_response_header

NETWORK = "eip155:84532"
TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PERMIT = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
CHANNELS = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"
TRANSFER = Web3.keccak(text="Transfer(address,address,uint256)")
NANO_PER_ATOMIC = 1000
PAY_TO = env("PAY_TO")
URL = env("GATEWAY_URL") + "/v1/chat/completions"
CHAIN = Web3(Web3.HTTPProvider(env("RPC_URL")))

# Keys of the mnemonic every development chain starts with: public, worth nothing.
_MNEMONIC = "test test test test test test test test test test test junk"
# The payers of `chain/chain.mjs`: one client each.
_CLIENT_PAYERS = [2, 3, 4, 8, 9, *range(10, 45)]
Account.enable_unaudited_hdwallet_features()


def client_payer(number):
    return Account.from_mnemonic(_MNEMONIC, account_path=f"m/44'/60'/0'/0/{_CLIENT_PAYERS[number]}")


def request(content, **more):
    """The body of a request for a chat completion."""
    return {"model": "gpt-play", "max_tokens": 64, "messages": [{"role": "user", "content": content}], **more}


def streamed(content, **more):
    return request(content, stream=True, stream_options={"include_usage": True}, **more)


@dataclass
class Answer:
    """What came back, with when its pieces came."""

    status: int
    headers: httpx.Headers
    arrivals: list[float] = field(default_factory=list)
    body: bytes = b""

    @property
    def settled(self):
        return decode_payment_response_header(self.headers["payment-response"])

    @property
    def chunks(self):
        lines = [line[5:].strip() for line in self.body.decode().splitlines() if line.startswith("data:")]
        assert lines[-1] == "[DONE]", lines[-1]
        return [json.loads(line) for line in lines[:-1]]

    @property
    def usage(self):
        if self.headers["content-type"].startswith("text/event-stream"):
            return self.chunks[-1]["usage"]
        return json.loads(self.body)["usage"]

    @property
    def seconds(self):
        return self.arrivals[-1] - self.arrivals[0]


def pay(client, body):
    """Sends one request with an x402 client that pays when it is asked to."""

    async def send():
        paying = x402AsyncTransport(client)
        async with httpx.AsyncClient(transport=paying, timeout=60) as http:
            async with http.stream("POST", URL, json=body) as response:
                answer = Answer(response.status_code, response.headers)
                async for piece in response.aiter_raw():
                    answer.arrivals.append(time.monotonic())
                    answer.body += piece
                return answer

    return asyncio.run(send())


def unpaid(body, wanted):
    """The first of the offers in the answer to an unpaid call that `wanted` takes."""
    response = httpx.post(URL, json=body, timeout=60)
    assert response.status_code == 402, response.text
    challenge = json.loads(base64.b64decode(response.headers["payment-required"]))
    offers = [offer for offer in challenge["accepts"] if offer["network"] == NETWORK and wanted(offer)]
    assert offers, challenge["accepts"]
    return offers[0]


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


def _topic(address):
    return "0x" + address[2:].lower().rjust(64, "0")


def transfers(payer, payee=PAY_TO) -> list[int]:
    """What the payer moved to the payee since the chain began, in atomic units, oldest first."""
    asked: Any = {"address": TOKEN, "fromBlock": 0, "topics": ["0x" + TRANSFER.hex(), _topic(payer), _topic(payee)]}
    return [int.from_bytes(log["data"]) for log in CHAIN.eth.get_logs(asked)]


def assert_moved(transaction, payer, value, payee=PAY_TO):
    """Fails unless this transaction moved exactly so much of the token, once, from the payer to us."""
    receipt = CHAIN.eth.get_transaction_receipt(transaction)
    assert receipt["status"] == 1
    moved = [
        (log["address"], log["topics"][1].hex()[-40:], log["topics"][2].hex()[-40:], int.from_bytes(log["data"]))
        for log in receipt["logs"]
        if log["topics"][0] == TRANSFER
    ]
    assert moved == [(TOKEN, payer[2:].lower(), payee[2:].lower(), value)], moved


def approve_permit(account, value=2**256 - 1):
    """Lets the permit contract move the account's play money: what a wallet does once."""
    selector = Web3.keccak(text="approve(address,uint256)")[:4].hex()
    data = "0x" + selector + _topic(PERMIT)[2:] + f"{value:064x}"
    signed = account.sign_transaction({
        "to": TOKEN,
        "data": data,
        "value": 0,
        "gas": 100_000,
        "gasPrice": CHAIN.eth.gas_price,
        "nonce": CHAIN.eth.get_transaction_count(account.address),
        "chainId": 84532,
    })
    sent = CHAIN.eth.send_raw_transaction(signed.raw_transaction)
    assert CHAIN.eth.wait_for_transaction_receipt(sent, poll_latency=0.03)["status"] == 1


def facilitator_calls(after=0):
    """What the facilitator was asked since `after` calls, oldest first."""
    return get(env("FACILITATOR_URL") + "/__calls")[after:]


def fine_cost_nano(usage):
    """What a call costs of a model whose tokens cost less than one atomic unit: 0.1 and 0.4 USD per million."""
    return usage["prompt_tokens"] * 100 + usage["completion_tokens"] * 400


def atomic_up(nano):
    """Billionths of a dollar in whole atomic units, rounded up."""
    return -(-nano // NANO_PER_ATOMIC)


def token_balance(owner):
    """What an account has of the play token, in atomic units."""
    data = "0x" + Web3.keccak(text="balanceOf(address)")[:4].hex() + _topic(owner)[2:]
    return int.from_bytes(CHAIN.eth.call({"to": TOKEN, "data": data}))
