"""The unmodified grpcio on both sides of the gateway: its client, and a server of its own behind it. Messages are plain
bytes, so no schema is needed."""

import json
import re
import threading
import time
import urllib.request
from concurrent import futures
from urllib.parse import urlsplit

import grpc

from harness import assert_balance, balance_nano, env, run

KEY = env("FARTHING_KEY")
PAID = (("authorization", f"Bearer {KEY}"),)
# A byte of an answer, in billionths of a dollar; each message has a head of five bytes.
BYTE, HEAD, CALL = 1000, 5, 1_000_000

left = threading.Event()


def echo(message, context):
    seen = dict(context.invocation_metadata())
    assert "fk_" not in str(seen), "the payer's key came through"
    assert seen.get("x-session", "") in ("", "mine"), seen
    context.set_trailing_metadata((("x-length", str(len(message))),))
    return message.upper()


def fails(message, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100 %")


def forbids(message, context):
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "the operator's key is wrong")


def never(message, context):
    # Where its time was over before it came here, nobody calls back.
    if not context.add_callback(left.set):
        left.set()
    time.sleep(10)
    return b""


def words(message, context):
    yield from message.split(b" ")


def half(message, context):
    yield b"half"
    context.abort(grpc.StatusCode.ABORTED, "stopped")


def collect(messages, context):
    return b"+".join(messages)


def talk(messages, context):
    for message in messages:
        yield b"re: " + message


def serve():
    unary, spread = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    metered = {
        "Echo": unary(echo),
        "Fails": unary(fails),
        "Forbids": unary(forbids),
        "Never": unary(never),
        "Words": spread(words),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8), compression=grpc.Compression.NoCompression)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("metered.M", metered),
            grpc.method_handlers_generic_handler("fixed.F", {"Echo": unary(echo), "Half": spread(half)}),
        )
    )
    assert server.add_insecure_port(f"127.0.0.1:{env('PEER_PORT')}")
    server.start()
    return server


CHANNEL = grpc.insecure_channel(urlsplit(env("GATEWAY_URL")).netloc)


def raised(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def unary_is_paid():
    before = balance_nano(KEY)
    answer, call = CHANNEL.unary_unary("/metered.M/Echo").with_call(
        b"hello", metadata=PAID + (("x-session", "mine"), ("x-other", "no")), timeout=60
    )
    assert answer == b"HELLO"
    trailing = dict(call.trailing_metadata())
    assert trailing["x-length"] == "5" and call.code() == grpc.StatusCode.OK
    cost = (HEAD + 5) * BYTE
    assert trailing["farthing-charge"] == f"{cost / 1e9:.9f} TEST", trailing
    assert_balance(KEY, before - cost)


def streams_are_paid():
    before = balance_nano(KEY)
    got = list(CHANNEL.unary_stream("/metered.M/Words")(b"a bc def", metadata=PAID, timeout=60))
    assert got == [b"a", b"bc", b"def"]
    assert CHANNEL.stream_unary("/metered.M/Collect")(iter([b"1", b"2", b"3"]), metadata=PAID, timeout=60) == b"1+2+3"
    assert_balance(KEY, before - (3 * HEAD + 6 + HEAD + 5) * BYTE)


def two_way_stream_does_not_wait():
    before = balance_nano(KEY)
    heard = threading.Semaphore(0)

    def asks():
        for text in (b"one", b"two", b"three"):
            yield text
            assert heard.acquire(timeout=60), "nothing came back"

    got = []
    for message in CHANNEL.stream_stream("/metered.M/Talk")(asks(), metadata=PAID, timeout=60):
        got.append(message)
        heard.release()
    assert got == [b"re: one", b"re: two", b"re: three"]
    assert_balance(KEY, before - (3 * HEAD + 11 + 3 * 4) * BYTE)


def compressed_messages_pass():
    before = balance_nano(KEY)
    long = b"x" * 100
    call = CHANNEL.unary_unary("/metered.M/Echo")
    assert call(long, metadata=PAID, timeout=60, compression=grpc.Compression.Gzip) == long.upper()
    assert_balance(KEY, before - (HEAD + 100) * BYTE)


def fixed_price_once():
    before = balance_nano(KEY)
    assert CHANNEL.unary_unary("/fixed.F/Echo")(b"a", metadata=PAID, timeout=60) == b"A"
    assert_balance(KEY, before - CALL)


def failures_before_a_message_are_free():
    before = balance_nano(KEY)
    error = raised(lambda: CHANNEL.unary_unary("/metered.M/Fails")(b"a", metadata=PAID, timeout=60))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing: 100 %")
    error = raised(lambda: CHANNEL.unary_unary("/metered.M/Forbids")(b"a", metadata=PAID, timeout=60))
    assert error.code() == grpc.StatusCode.UNAVAILABLE and "operator" not in error.details()
    error = raised(lambda: CHANNEL.unary_unary("/metered.M/NoSuchMethod")(b"a", metadata=PAID, timeout=60))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    assert_balance(KEY, before)
    error = raised(lambda: list(CHANNEL.unary_stream("/fixed.F/Half")(b"a", metadata=PAID, timeout=60)))
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "stopped")
    assert_balance(KEY, before - CALL)


def deadline_reaches_the_server():
    before = balance_nano(KEY)
    error = raised(lambda: CHANNEL.unary_unary("/metered.M/Never")(b"a", metadata=PAID, timeout=0.5))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert left.wait(60), "the server was not told"
    assert_balance(KEY, before)


def refused_in_grpcs_words():
    for metadata, code in (
        ((("authorization", "Bearer fk_test_AgImRksB"),), grpc.StatusCode.UNAUTHENTICATED),
        (PAID + (("idempotency-key", "a"),), grpc.StatusCode.INTERNAL),
    ):
        error = raised(lambda: CHANNEL.unary_unary("/metered.M/Echo")(b"a", metadata=metadata, timeout=60))
        assert error.code() == code and error.details().endswith("Nothing was taken."), error
    error = raised(lambda: CHANNEL.unary_unary("/elsewhere.E/Echo")(b"a", metadata=PAID, timeout=60))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


def pays_by_l402():
    """As a client of Aperture does: status 13, `payment required`, then the challenge in the trailers."""
    call = CHANNEL.unary_unary("/metered.M/Echo")
    error = raised(lambda: call(b"hello", timeout=60))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "payment required")
    # Trailers alone are headers: grpcio has them as trailing metadata.
    line = [value for name, value in error.trailing_metadata() if name == "www-authenticate"][0]
    token, invoice = re.match(r'L402 macaroon="([^"]+)", invoice="([^"]+)"', line).groups()
    body = json.dumps({"invoice": invoice}).encode()
    with urllib.request.urlopen(env("WALLET_URL") + "/pay", data=body, timeout=60) as answer:
        preimage = json.load(answer)["preimage"]
    paid = (("authorization", f"L402 {token}:{preimage}"),)
    for _ in range(3):
        assert call(b"hello", metadata=paid, timeout=60) == b"HELLO"
    hexed = (("authorization", f"LSAT {token}:{preimage}"),)
    assert call(b"hello", metadata=hexed, timeout=60) == b"HELLO"
    # Two thousandths of a dollar were paid; four calls are used.
    assert_balance(f"L402 {token}:{preimage}", 2_000_000 - 4 * (HEAD + 5) * BYTE)


SERVER = serve()
run(
    [
        unary_is_paid,
        streams_are_paid,
        two_way_stream_does_not_wait,
        compressed_messages_pass,
        fixed_price_once,
        failures_before_a_message_are_free,
        deadline_reaches_the_server,
        refused_in_grpcs_words,
        pays_by_l402,
    ]
)
SERVER.stop(None)
CHANNEL.close()
