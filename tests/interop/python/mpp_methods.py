"""A method that pympp does not have, as it lets anybody add one: `tempo`/`session`, vouchers on a channel of Tempo's.

Transactions are made and signed by pytempo, vouchers by eth-account; which bytes go where is written down here a second
time, apart from the gateway and from mppx. Finding the challenge, sending the credential and asking again stay the
package's own."""

import json
import os
import time

import httpx
from eth_abi.abi import encode
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from harness import env
from mpp import Credential
from mpp.methods import Method
from mpp.runtime import ClientMethod
from pydantic import BaseModel, ConfigDict
from pytempo import Call, TempoTransaction

CHAIN_ID = 42431
RESERVE = "0x4d50500000000000000000000000000000000000"
ZERO = "0x" + "00" * 20
# Half the order of the curve: a signature with a larger s is the twin of a canonical one.
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class _Any(BaseModel):
    model_config = ConfigDict(extra="allow")


def rpc(method, *params):
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx.post(env("TEMPO_RPC_URL"), json=asked, timeout=60).json()["result"]


class Session:
    """One channel: its money, and what was promised of it."""

    def __init__(self, account, deposit=None):
        self.account = account
        self._deposit = deposit
        self.cumulative = 0
        self.descriptor = None
        self.id = None
        self.challenge = None
        definition = Method(name="tempo", intent="session", request_model=_Any, payload_model=_Any)
        self.method = ClientMethod(method=definition, create_credential=self._create_credential)

    async def _create_credential(self, params):
        """Opens the channel for the first call, and adds what is asked for each further one."""
        self.challenge = params.challenge
        request = params.challenge.request
        if self.descriptor is None:
            payload = self.open(request)
        else:
            payload = self.voucher("voucher", self.cumulative + int(request["amount"]))
        return self.credential(payload)

    def credential(self, payload):
        source = f"did:pkh:eip155:{CHAIN_ID}:{self.account.address}"
        return Credential(challenge=self.challenge.to_echo(), payload=payload, source=source).to_authorization()

    def open(self, request):
        deposit = self._deposit or int(request["suggestedDeposit"])
        payee, token, salt = request["recipient"], request["currency"], os.urandom(32)
        types = ["address", "address", "address", "uint96", "bytes32", "address"]
        call = _call("open(address,address,address,uint96,bytes32,address)", types, [payee, ZERO, token, deposit, salt, self.account.address])
        transaction = self._transaction(call, token)
        nonce_hash = keccak(transaction.encode_for_signing() + bytes.fromhex(self.account.address[2:]))
        self.descriptor = {
            "payer": self.account.address,
            "payee": payee,
            "operator": ZERO,
            "token": token,
            "salt": "0x" + salt.hex(),
            "authorizedSigner": self.account.address,
            "expiringNonceHash": "0x" + nonce_hash.hex(),
        }
        names = ["address", "address", "address", "address", "bytes32", "address", "bytes32", "address", "uint256"]
        values = [*map(_value, self.descriptor.values()), RESERVE, CHAIN_ID]
        self.id = "0x" + keccak(encode(names, values)).hex()
        signed = self.voucher("open", int(request["amount"]))
        return {**signed, "type": "transaction", "transaction": self._signed(transaction)}

    def top_up(self, amount):
        kind = "(address,address,address,address,bytes32,address,bytes32)"
        call = _call(f"topUp({kind},uint96)", [kind, "uint96"], [tuple(map(_value, self.descriptor.values())), amount])
        transaction = self._signed(self._transaction(call, self.descriptor["token"]))
        same = {"channelId": self.id, "descriptor": self.descriptor, "additionalDeposit": str(amount)}
        return {"action": "topUp", "type": "transaction", "transaction": transaction, **same}

    def voucher(self, action, cumulative, **change):
        """A promise, as this channel's payer signs it, or as somebody else would."""
        self.cumulative = max(self.cumulative, cumulative) if not change else self.cumulative
        signed = change.get("account", self.account).sign_typed_data(
            domain_data={"name": "TIP20 Channel Reserve", "version": "1", "chainId": CHAIN_ID, "verifyingContract": RESERVE},
            message_types={"Voucher": [{"name": "channelId", "type": "bytes32"}, {"name": "cumulativeAmount", "type": "uint96"}]},
            message_data={"channelId": bytes.fromhex(self.id[2:]), "cumulativeAmount": cumulative},
        )
        signature = change.get("shape", lambda signed: signed.signature)(signed)
        same = {"channelId": self.id, "descriptor": self.descriptor, "cumulativeAmount": str(cumulative)}
        return {"action": action, "signature": "0x" + bytes(signature).hex(), **same}

    def _transaction(self, call, token):
        base_fee = int(rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        return TempoTransaction.create(
            chain_id=CHAIN_ID,
            gas_limit=1_000_000,
            max_fee_per_gas=2 * base_fee + 10**9,
            max_priority_fee_per_gas=10**9,
            # Such a nonce is used up by time alone.
            nonce_key=2**256 - 1,
            valid_before=int(time.time()) + 25,
            fee_token=token,
            calls=(Call.create(to=RESERVE, data=call),),
        )

    def _signed(self, transaction):
        return "0x" + transaction.sign(self.account.key.hex()).encode().hex()

    def send(self, url, payload):
        """Sends what is about the channel alone: without a body, so that it is no call."""
        return httpx.post(url, headers={"authorization": self.credential(payload)}, timeout=60)


def twin(signed):
    """The same signature with the other s, which the curve takes as well."""
    return signed.r.to_bytes(32) + (ORDER - signed.s).to_bytes(32) + bytes([55 - signed.v])


def compact(signed):
    """The same signature in 64 bytes (EIP-2098)."""
    return signed.r.to_bytes(32) + (signed.s | ((signed.v - 27) << 255)).to_bytes(32)


def events(lines):
    """Event name and data of a stream of server-sent events, one by one."""
    name, data = "message", []
    for line in lines:
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line and data:
            yield name, "\n".join(data)
            name, data = "message", []


def channel_state(channel_id):
    """Settled, deposited, and when the payer asked for the rest."""
    data = "0x" + keccak(text="getChannelState(bytes32)")[:4].hex() + channel_id[2:]
    told = rpc("eth_call", {"to": RESERVE, "data": data}, "latest")
    return tuple(int(told[2 + at : 66 + at], 16) for at in (0, 64, 128))


def closed(channel_id):
    """What the seller got of a channel that has ended, and what went back."""
    topic = "0x" + keccak(text="ChannelClosed(bytes32,address,address,uint96,uint96)").hex()
    [log] = rpc("eth_getLogs", {"address": RESERVE, "fromBlock": "0x0", "topics": [topic, channel_id]})
    return int(log["data"][2:66], 16), int(log["data"][66:], 16)


def _call(signature, types, values):
    return keccak(text=signature)[:4] + encode(types, values)


def _value(text):
    return to_checksum_address(text) if len(text) == 42 else bytes.fromhex(text[2:])


# Keys of the mnemonic every development chain starts with: public, worth nothing. The first ten have money there.
Account.enable_unaudited_hdwallet_features()


def tempo_payer(index):
    mnemonic = "test test test test test test test test test test test junk"
    return Account.from_mnemonic(mnemonic, account_path=f"m/44'/60'/0'/0/{index}")


def told(response):
    """The end of the problem type of a refusal."""
    return json.loads(response.text).get("type", "").removeprefix("https://paymentauth.org/problems/")
