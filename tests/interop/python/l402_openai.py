"""The unmodified OpenAI SDK for Python, with a paid L402 token as its API key."""

import openai

from harness import assert_balance, cost_nano, env, run, upstream_hits
from l402_harness import LONG, URL, call, challenged, credit_nano, pay_invoice, payments, wrapped

paid = {}


def sdk():
    return openai.OpenAI(base_url=env("GATEWAY_URL") + "/v1", api_key=paid["key"])


def wrapped_token_as_api_key():
    token, invoice = challenged(URL, call("Just to pay."))
    preimage = pay_invoice(invoice)
    paid["key"] = wrapped(token, preimage)
    before = len(payments())
    plain = sdk().chat.completions.create(**call("Say something short."))
    left = credit_nano(token) - cost_nano(plain.usage.prompt_tokens, plain.usage.completion_tokens)
    assert_balance(paid["key"], left)
    streamed = call("A short story, please.", stream=True, stream_options={"include_usage": True})
    chunks = list(sdk().chat.completions.create(**streamed))
    left -= cost_nano(chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens)
    # Whatever form it is shown in, it is the same money.
    assert_balance(f"L402 {token}:{preimage}", left)
    assert len(payments()) == before


def wrapped_token_is_spent():
    for _ in range(20):
        hits = upstream_hits()
        try:
            sdk().chat.completions.create(**call(LONG))
        except openai.APIStatusError as error:
            assert (error.status_code, error.code) == (402, "insufficient_balance"), error
            assert upstream_hits() == hits, "an unpaid call reached the upstream"
            return
    raise AssertionError("20 calls, and something is left of a payment for five")


run([wrapped_token_as_api_key, wrapped_token_is_spent])
