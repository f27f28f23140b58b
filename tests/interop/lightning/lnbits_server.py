"""LNbits with its FakeWallet, on loopback: `lnbits_server.py DATA_FOLDER`, port in `PORT`.

LNbits itself is unmodified. Four packages that it imports exist as source only (embit, http-ece, pyqrcode, tlv8), and
nothing is built here: they are for QR codes, push messages to browsers, Nostr and the chain, none of which is used.
Modules of their names stand in that refuse to do anything.
"""

import importlib.util
import os
import pathlib
import sys
import types

ABSENT = [
    "embit",
    "embit.bip39",
    "embit.networks",
    "embit.script",
    "embit.transaction",
    "http_ece",
    "pyqrcode",
    "tlv8",
]


class Nothing:
    """Can be imported and looked up in, but not called."""

    def __init__(self, name):
        self._name = name

    def __getitem__(self, _key):
        return self

    def __call__(self, *_args, **_kwargs):
        raise RuntimeError(f"{self._name} is not installed here")


class Absent(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(f"{self.__name__}.{name}")


def main():
    data = pathlib.Path(sys.argv[1]).resolve()
    for part in ["extensions", "logs", "wasm_extensions"]:
        (data / part).mkdir(parents=True, exist_ok=True)
    os.environ.update(
        LNBITS_DATA_FOLDER=str(data),
        LNBITS_EXTENSIONS_PATH=str(data),
        LNBITS_BACKEND_WALLET_CLASS="FakeWallet",
        FAKE_WALLET_SECRET="a public test secret",
        LNBITS_ADMIN_UI="true",
        LNBITS_PRICE_AGGREGATOR_ENABLED="false",
        LNBITS_EXCHANGE_RATE_PROVIDERS="[]",
        LNBITS_EXTENSIONS_MANIFESTS="[]",
        LNBITS_WASM_EXTENSIONS_MANIFESTS="[]",
        LNBITS_RATE_LIMIT_NO="100000",
        HOST="127.0.0.1",
        # What it asks of the world besides (rates, news) ends here.
        HTTPS_PROXY="http://127.0.0.1:9",
        HTTP_PROXY="http://127.0.0.1:9",
    )
    for name in ABSENT:
        sys.modules[name] = Absent(name)
    # Its templates are found from where its package is.
    os.chdir(pathlib.Path(importlib.util.find_spec("lnbits").origin).parent.parent)

    import uvicorn

    uvicorn.run("lnbits.__main__:app", host="127.0.0.1", port=int(os.environ["PORT"]))


if __name__ == "__main__":
    main()
