"""Of the clients before one route and one 402: the unmodified pympp."""

from importlib.metadata import version

from harness import assert_balance, cost_nano, run
from mpp.methods.evm import BASE_SEPOLIA_USDC
from mpp.methods.evm import client as evm
from mpp_harness import NANO_PER_ATOMIC, URL, client_payer, pay, request, transfers


def pympp_pays():
    account = client_payer(28)
    answer = pay([evm.charge(currency=BASE_SEPOLIA_USDC, account=account)], URL, request("What do you take?"))
    assert answer.status == 200, answer.body
    [(transaction, amount)] = transfers(account.address)
    assert answer.receipt["reference"] == transaction
    usage = answer.usage
    left = amount * NANO_PER_ATOMIC - cost_nano(usage["prompt_tokens"], usage["completion_tokens"])
    assert_balance(answer.headers["farthing-key"], left)
    way = "Payment: `evm`, `charge`"
    print(f"row `pympp` (Python) | {version('pympp')} | {way} | {len(answer.sent)} | 200, one transfer on the chain", flush=True)


run([pympp_pays])
