"""Holder proofs by a second implementation: RFC 9421 bases built here, Ed25519 by pyca/cryptography.

`--write` makes specs/vectors/identity/holder_proofs.json anew. Without it every case of the file is judged here, and the
verdicts must be those that the file records.
"""

import base64
import hashlib
import json
import pathlib
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE = pathlib.Path(__file__).resolve().parents[3] / "specs/vectors/identity/holder_proofs.json"
# RFC 9421 appendix B.1.4, and a key that is nobody's.
SECRET = base64.urlsafe_b64decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU=")
OTHER = bytes(range(32))
NOW = 1_795_140_000
KEY_FIELDS = ["authorization", "x-api-key", "payment-authorization"]
TOKEN = "Bearer fk_test_AQ"
BODY = '{"model":"m"}'
URL = "https://gw.example.com/v1/chat/completions"


def b64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def thumbprint(key):
    x = b64url(key.public_key().public_bytes_raw())
    return b64url(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())


def digest(body, name="sha256"):
    hashed = hashlib.new(name, body.encode()).digest()
    return f"sha-{name[3:]}=:{base64.b64encode(hashed).decode()}:"


def base(method, url, headers, components, params):
    authority, target = re.fullmatch(r"https?://([^/]+)(/.*)", url).groups()
    path, mark, query = target.partition("?")
    derived = {"@method": method, "@authority": authority, "@path": path, "@query": mark + query or "?"}
    lines = []
    for name in components:
        value = derived[name] if name in derived else headers[name].strip()
        lines.append(f'"{name}": {value}')
    return "\n".join([*lines, f'"@signature-params": {params}'])


class Case:
    """A request that is signed, and then perhaps changed."""

    def __init__(self, name, verdict, method="POST", url=URL, body=BODY, field="authorization", value=TOKEN):
        self.name, self.verdict, self.method, self.url, self.body = name, verdict, method, url, body
        self.headers = {field: value}
        if body:
            self.headers["content-digest"] = digest(body)
        self.now = NOW

    def components(self):
        names = ["@method", "@authority", "@path"]
        if "?" in self.url:
            names.append("@query")
        return names + [name for name in self.headers if not name.startswith("signature")]

    def sign(self, without=(), secret=SECRET, keyid=None, created=NOW, lasts=60, nonce="bm9uY2U", tag="farthing-holder",
             alg="ed25519", label="h"):
        key = Ed25519PrivateKey.from_private_bytes(secret)
        components = [name for name in self.components() if name not in without]
        names = " ".join(f'"{name}"' for name in components)
        params = f"({names});created={created};expires={created + lasts};keyid=\"{keyid or thumbprint(key)}\""
        params += f';alg="{alg}"' if alg else ""
        params += f';nonce="{nonce}"' if nonce is not None else ""
        params += f';tag="{tag}"'
        signature = key.sign(base(self.method, self.url, self.headers, components, params).encode())
        before = (self.headers.get("signature-input"), self.headers.get("signature"))
        own = (f"{label}={params}", f"{label}=:{base64.b64encode(signature).decode()}:")
        for field, one, other in zip(("signature-input", "signature"), before, own):
            self.headers[field] = f"{one}, {other}" if one else other
        return self

    def then(self, **changes):
        for name, value in changes.items():
            setattr(self, name, value)
        return self

    def field(self, name, value):
        self.headers[name] = value
        return self

    def moved(self, source, target):
        self.headers = {target if name == source else name: value for name, value in self.headers.items()}
        return self

    def to_json(self):
        return {"name": self.name, "method": self.method, "url": self.url, "headers": self.headers, "body": self.body,
                "now_unix": self.now, "verdict": self.verdict}


def cases():
    owner = Ed25519PrivateKey.from_private_bytes(SECRET)
    yield Case("good", "good").sign()
    yield Case("good_without_body", "good", method="GET", url="https://gw.example.com/farthing/balance", body="").sign()
    yield Case("good_with_query", "good", url=URL + "?a=1&b=%20").sign()
    yield Case("good_with_sha_512", "good").field("content-digest", digest(BODY, "sha512")).sign()
    yield Case("good_in_x_api_key", "good", field="x-api-key", value="fk_test_AQ").sign()
    yield Case("good_in_payment_authorization", "good", field="payment-authorization", value="Payment e30").sign()
    yield Case("good_without_alg", "good").sign(alg=None)
    yield Case("good_beside_another_party", "good").sign(tag="something-else", label="x").sign()
    yield Case("body_changed", "content_digest").sign().then(body='{"model":"n"}')
    yield Case("digest_changed_with_body", "signature").sign().then(body="{}").field("content-digest", digest("{}"))
    yield Case("path_changed", "signature").sign().then(url="https://gw.example.com/v1/messages")
    yield Case("method_changed", "signature").sign().then(method="PUT")
    yield Case("host_changed", "signature").sign().then(url="https://other.example.com/v1/chat/completions")
    yield Case("query_added", "not_covered").sign().then(url=URL + "?a=1")
    yield Case("query_changed", "signature", url=URL + "?a=1").sign().then(url=URL + "?a=2")
    yield Case("query_not_signed", "not_covered", url=URL + "?a=1").sign(without=["@query"])
    yield Case("other_token_same_key", "signature").sign().field("authorization", "Bearer fk_test_BQ")
    yield Case("attenuated_token_old_signature", "signature").sign().field("authorization", TOKEN + "Aw")
    yield Case("token_moved_to_x_api_key", "not_covered").sign().moved("authorization", "x-api-key")
    yield Case("token_not_signed", "not_covered").sign(without=["authorization"])
    yield Case("digest_not_signed", "not_covered").sign(without=["content-digest"])
    yield Case("expired", "expired").sign().then(now=NOW + 60)
    yield Case("a_second_left", "good").sign().then(now=NOW + 59)
    yield Case("created_31_s_ahead", "not_yet_valid").sign().then(now=NOW - 31)
    yield Case("created_30_s_ahead", "good").sign().then(now=NOW - 30)
    yield Case("window_61_s", "window_too_long").sign(lasts=61)
    yield Case("wrong_key", "keyid").sign(secret=OTHER)
    yield Case("wrong_key_right_name", "signature").sign(secret=OTHER, keyid=thumbprint(owner))
    yield Case("web_bot_auth_instead", "absent").sign(tag="web-bot-auth")
    yield Case("no_nonce", "nonce").sign(nonce=None)
    yield Case("two_holders", "ambiguous").sign().sign(label="i", nonce="Mg")
    yield Case("not_ed25519", "algorithm").sign(alg="hmac-sha256")
    yield Case("unsigned", "absent")


def judge(case, key):
    """The verdict of this implementation, in the order in which the gateway looks."""
    headers = case["headers"]
    labels = re.findall(r'(\w+)=(\([^)]*\)[^,]*)', headers.get("signature-input", ""))
    ours = [(label, params) for label, params in labels if ';tag="farthing-holder"' in params]
    if len(ours) != 1:
        return "ambiguous" if ours else "absent"
    label, params = ours[0]
    number = lambda name: int(re.search(rf";{name}=(\d+)", params)[1])
    text = lambda name: (re.search(rf';{name}="([^"]*)"', params) or [None, None])[1]
    if text("alg") not in (None, "ed25519"):
        return "algorithm"
    created, expires, now = number("created"), number("expires"), case["now_unix"]
    if created > now + 30:
        return "not_yet_valid"
    if now >= expires:
        return "expired"
    if expires - created > 60:
        return "window_too_long"
    if not text("nonce"):
        return "nonce"
    components = re.findall(r'"([^"]*)"', params[: params.index(")")])
    must = ["@method", "@authority", "@path", *(["@query"] if "?" in case["url"] else [])]
    must += [name for name in KEY_FIELDS if name in headers] + (["content-digest"] if case["body"] else [])
    if any(name not in components for name in must):
        return "not_covered"
    if text("keyid") != thumbprint(key):
        return "keyid"
    signature = base64.b64decode(re.search(rf"\b{label}=:([^:]*):", headers["signature"])[1])
    try:
        signed = base(case["method"], case["url"], headers, components, params)
        key.public_key().verify(signature, signed.encode())
    except InvalidSignature:
        return "signature"
    claimed = headers.get("content-digest")
    if claimed and claimed not in (digest(case["body"]), digest(case["body"], "sha512")):
        return "content_digest"
    return "good"


def main():
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    if "--write" in sys.argv:
        jwk = {"kty": "OKP", "crv": "Ed25519", "kid": thumbprint(key), "x": b64url(key.public_key().public_bytes_raw())}
        file = {"source": "Made for this project by tests/interop/python/holder_proofs.py with pyca/cryptography and the "
                          "public RFC 9421 B.1.4 key. Rules IDN-26..29 of specs/identity.md.",
                "public_jwk": jwk, "cases": [case.to_json() for case in cases()]}
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(json.dumps(file, indent=1) + "\n")
    found = json.loads(FILE.read_text())["cases"]
    wrong = [(case["name"], verdict) for case in found if (verdict := judge(case, key)) != case["verdict"]]
    assert not wrong, wrong
    print(f"{len(found)} holder proofs judged alike")


if __name__ == "__main__":
    main()
