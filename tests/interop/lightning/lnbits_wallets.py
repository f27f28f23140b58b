"""Makes the first user of a fresh LNbits and its wallets, and prints the keys as one line of JSON: `invoice` makes the
seller's invoices, `seller` and `payer` pay out of either wallet, `node` signs. The payer has 1,000,000 sat of play
money."""

import json
import os
import urllib.request

import bolt11

PASSWORD = "a public test password"


def ask(method, path, body=None, token=None, key=None):
    request = urllib.request.Request(os.environ["LNBITS_URL"] + path, method=method)
    request.add_header("content-type", "application/json")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    if key:
        request.add_header("x-api-key", key)
    # Whatever proxy this machine has is not between us and loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    with opener.open(request, data=data, timeout=10) as answer:
        return json.load(answer)


first = {"username": "operator", "password": PASSWORD, "password_repeat": PASSWORD}
token = ask("PUT", "/api/v1/auth/first_install", first)["access_token"]
seller = ask("GET", "/api/v1/wallets", token=token)[0]
payer = ask("POST", "/api/v1/wallet", {"name": "payer"}, token)
ask("PUT", "/users/api/v1/balance", {"id": payer["id"], "amount": 1_000_000}, token)
# LNbits does not say who signs; its invoices do.
probe = ask("POST", "/api/v1/payments", {"out": False, "amount": 1, "unit": "sat"}, key=seller["inkey"])
node = bolt11.decode(probe["bolt11"]).payee
print(json.dumps({"invoice": seller["inkey"], "seller": seller["adminkey"], "payer": payer["adminkey"], "node": node}))
