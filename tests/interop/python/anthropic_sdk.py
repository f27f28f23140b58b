"""The unmodified Anthropic SDK for Python: only base URL and key differ from its defaults."""

import anthropic
from harness import BreakingLine, assert_balance, balance_nano, cost_nano, env, run, upstream_hits

KEY = env("FARTHING_KEY")
REQUEST = {
    "model": "claude-play",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Say something short."}],
}


def sdk(key):
    return anthropic.Anthropic(base_url=env("GATEWAY_URL"), api_key=key)


CLIENT = sdk(KEY)


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def messages():
    before = balance_nano(KEY)
    answer = CLIENT.messages.create(**REQUEST)
    assert text(answer)
    assert_balance(KEY, before - cost_nano(answer.usage.input_tokens, answer.usage.output_tokens))


def messages_stream():
    before = balance_nano(KEY)
    with CLIENT.messages.stream(**REQUEST) as stream:
        deltas = list(stream.text_stream)
        answer = stream.get_final_message()
    assert len(deltas) > 1, deltas
    assert text(answer) == "".join(deltas)
    assert answer.stop_reason
    assert_balance(KEY, before - cost_nano(answer.usage.input_tokens, answer.usage.output_tokens))


def stream_to_end(client):
    with client.messages.stream(**REQUEST) as stream:
        stream.until_done()


def empty_balance():
    hits = upstream_hits()
    empty = sdk(env("FARTHING_EMPTY_KEY"))
    for call in (lambda: empty.messages.create(**REQUEST), lambda: stream_to_end(empty)):
        try:
            call()
        except anthropic.APIStatusError as error:
            assert type(error).__name__ == "PaymentRequiredError", type(error).__name__
            assert error.status_code == 402, error.status_code
            said = error.body["error"]
            assert said["type"] == "billing_error", said
            assert said["details"]["error_code"] == "insufficient_balance", said
            assert "balance" in said["message"].lower(), said
        else:
            raise AssertionError("an empty key was served")
    assert upstream_hits() == hits, "an unpaid call reached the upstream"


def lost_answer():
    before, hits = balance_nano(KEY), upstream_hits()
    with BreakingLine() as line:
        answer = anthropic.Anthropic(base_url=line.url, api_key=KEY).messages.create(**REQUEST)
    assert text(answer)
    assert line.tries == ["0", "1"], line.tries
    assert upstream_hits() == hits + 1, "the retry was another call"
    assert_balance(KEY, before - cost_nano(answer.usage.input_tokens, answer.usage.output_tokens))


run([messages, messages_stream, empty_balance, lost_answer])
