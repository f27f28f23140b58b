"""A Solana chain for one test: LiteSVM behind the few JSON-RPC methods that x402 clients and facilitators call.

Listens on 127.0.0.1:PORT. On it are the mint that stock clients know as USDC on devnet, a payer with play money, a
seller, and somebody who pays the fees. There are no blocks: a transaction is final when it is sent.
"""

import base64
import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from solders.account import Account
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.token import ID as TOKEN_PROGRAM
from solders.token.associated import get_associated_token_address
from solders.token.state import Mint, TokenAccount, TokenAccountState
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata

MINT = Pubkey.from_string("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU")
# Public test keys, worth nothing: one byte 32 times each.
PAYER, SELLER, FEE_PAYER = (Keypair.from_seed(bytes([byte] * 32)) for byte in (7, 8, 9))
FUNDS = 1_000_000_000
# A blockhash is good for so many blocks; ours never ages.
BLOCKS_LEFT = 150

# Facilitators simulate what only the payer has signed yet, so the machine does not look at signatures. `sendTransaction` does.
chain = LiteSVM().with_sigverify(False)
# By signature, what became of a transaction that was sent: an error, or none.
ended = {}


def fund():
    chain.airdrop(FEE_PAYER.pubkey(), 10**9)
    mint = Mint(mint_authority=None, supply=2 * FUNDS, decimals=6, is_initialized=True, freeze_authority=None)
    chain.set_account(MINT, Account(10**9, bytes(mint), TOKEN_PROGRAM))
    for owner, amount in ((PAYER.pubkey(), FUNDS), (SELLER.pubkey(), 0)):
        account = TokenAccount(
            mint=MINT,
            owner=owner,
            amount=amount,
            delegate=None,
            state=TokenAccountState.Initialized,
            is_native=None,
            delegated_amount=0,
            close_authority=None,
        )
        chain.set_account(get_associated_token_address(owner, MINT), Account(10**9, bytes(account), TOKEN_PROGRAM))


def get_account_info(address, _options=None):
    account = chain.get_account(Pubkey.from_string(address))
    return account and {
        "data": [base64.b64encode(bytes(account.data)).decode(), "base64"],
        "executable": account.executable,
        "lamports": account.lamports,
        "owner": str(account.owner),
        "rentEpoch": 0,
        "space": len(account.data),
    }


def get_latest_blockhash(_options=None):
    return {"blockhash": str(chain.latest_blockhash()), "lastValidBlockHeight": BLOCKS_LEFT}


def simulate_transaction(transaction, _options=None):
    result = chain.simulate_transaction(VersionedTransaction.from_bytes(base64.b64decode(transaction)))
    error = result.err() if isinstance(result, FailedTransactionMetadata) else None
    return {"err": error and str(error), "logs": [], "unitsConsumed": 0, "innerInstructions": []}


def send_transaction(transaction, _options=None):
    signed = VersionedTransaction.from_bytes(base64.b64decode(transaction))
    signature = str(signed.signatures[0])
    if not all(signed.verify_with_results()):
        raise ValueError("Transaction signature verification failure")
    if signature not in ended:
        result = chain.send_transaction(signed)
        ended[signature] = str(result.err()) if isinstance(result, FailedTransactionMetadata) else None
    return signature


def get_signature_statuses(signatures, _options=None):
    def status(signature):
        if signature not in ended:
            return None
        return {"slot": 1, "confirmations": None, "err": ended[signature], "confirmationStatus": "finalized"}

    return [status(str(Signature.from_string(signature))) for signature in signatures]


def get_token_account_balance(address, _options=None):
    account = chain.get_account(Pubkey.from_string(address))
    amount = TokenAccount.from_bytes(bytes(account.data)).amount
    return {"amount": str(amount), "decimals": 6, "uiAmountString": str(amount / 10**6)}


METHODS = {
    "getAccountInfo": get_account_info,
    "getLatestBlockhash": get_latest_blockhash,
    "simulateTransaction": simulate_transaction,
    "getSignatureStatuses": get_signature_statuses,
    "getTokenAccountBalance": get_token_account_balance,
}


def answer(call):
    """The result of one call. All of them but one tell the slot they saw."""
    if call["method"] == "sendTransaction":
        return {"result": send_transaction(*call["params"])}
    method = METHODS.get(call["method"])
    if method is None:
        return {"error": {"code": -32601, "message": f"Method not found: {call['method']}"}}
    return {"result": {"context": {"slot": 1}, "value": method(*call.get("params", []))}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._reply(200, {"mint": str(MINT)})

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            said = answer(call)
        except Exception as error:
            print(call["method"], error, flush=True)
            said = {"error": {"code": -32002, "message": str(error)}}
        self._reply(200, {"jsonrpc": "2.0", "id": call["id"], **said})

    def _reply(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """What was asked is no news; what failed is printed above."""


fund()
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
