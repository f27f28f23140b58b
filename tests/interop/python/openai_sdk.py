"""The unmodified OpenAI SDK for Python: only base URL and key differ from its defaults."""

import openai
from harness import (
    BreakingLine,
    assert_balance,
    assert_charged,
    balance_nano,
    cost_nano,
    env,
    nano,
    run,
    upstream_hits,
)

KEY = env("FARTHING_KEY")
CHAT = {
    "model": "gpt-play",
    "messages": [{"role": "user", "content": "Say something short."}],
    "max_tokens": 64,
}
RESPONSE = {"model": "gpt-play", "input": "Say something short.", "max_output_tokens": 64}


def sdk(key):
    return openai.OpenAI(base_url=env("GATEWAY_URL") + "/v1", api_key=key)


CLIENT = sdk(KEY)


def text(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def chat():
    before = balance_nano(KEY)
    answer = CLIENT.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content
    assert_balance(KEY, before - cost_nano(answer.usage.prompt_tokens, answer.usage.completion_tokens))


def chat_stream():
    before = balance_nano(KEY)
    chunks = list(CLIENT.chat.completions.create(**CHAT, stream=True))
    assert text(chunks)
    assert all(c.choices and c.usage is None for c in chunks), "a usage chunk nobody asked for"
    assert chunks[-1].choices[0].finish_reason == "stop", "the last chunk visible is the one that finishes"
    assert_charged(KEY, before)


def chat_stream_usage():
    before = balance_nano(KEY)
    chunks = list(CLIENT.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    assert text(chunks)
    assert not chunks[-1].choices
    usage = chunks[-1].usage
    assert_balance(KEY, before - cost_nano(usage.prompt_tokens, usage.completion_tokens))


def responses():
    before = balance_nano(KEY)
    answer = CLIENT.responses.create(**RESPONSE)
    assert answer.output_text
    assert_balance(KEY, before - cost_nano(answer.usage.input_tokens, answer.usage.output_tokens))


def responses_stream():
    before = balance_nano(KEY)
    events = list(CLIENT.responses.create(**RESPONSE, stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert events[-1].type == "response.completed", events[-1].type
    usage = events[-1].response.usage
    assert_balance(KEY, before - cost_nano(usage.input_tokens, usage.output_tokens))


def empty_balance():
    hits = upstream_hits()
    empty = sdk(env("FARTHING_EMPTY_KEY"))
    for call in (
        lambda: empty.chat.completions.create(**CHAT),
        lambda: empty.chat.completions.create(**CHAT, stream=True),
        lambda: empty.responses.create(**RESPONSE),
    ):
        try:
            call()
        except openai.APIStatusError as error:
            assert error.status_code == 402, error.status_code
            assert error.code == "insufficient_balance", error.code
            # The SDK hands over the `error` member alone: all that helps must be in there.
            assert "balance" in error.body["message"].lower(), error.body
            assert error.body["top_up_url"], error.body
        else:
            raise AssertionError("an empty key was served")
    assert upstream_hits() == hits, "an unpaid call reached the upstream"


def lost_answer():
    before, hits = balance_nano(KEY), upstream_hits()
    with BreakingLine() as line:
        client = openai.OpenAI(base_url=line.url + "/v1", api_key=KEY)
        answer = client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content
    assert line.tries == ["0", "1"], line.tries
    assert upstream_hits() == hits + 1, "the retry was another call"
    assert_balance(KEY, before - cost_nano(answer.usage.prompt_tokens, answer.usage.completion_tokens))


def stream_outlives_balance():
    small = env("FARTHING_SMALL_KEY")
    before = balance_nano(small)
    open_ended = {name: CHAT[name] for name in ("model", "messages")}
    chunks = list(sdk(small).chat.completions.create(**open_ended, stream=True))
    assert text(chunks), "the text that was paid for is lost"
    assert chunks[-1].choices[0].finish_reason == "length", chunks[-1]
    note = chunks[-1].model_extra["farthing"]
    assert note["code"] == "insufficient_balance", note
    assert balance_nano(small) == before - nano(note["charged"]["amount"])

    small = env("FARTHING_SMALL_KEY_TOO")
    before = balance_nano(small)
    events = list(sdk(small).responses.create(model=RESPONSE["model"], input=RESPONSE["input"], stream=True))
    assert any(e.type == "response.output_text.delta" for e in events)
    last = events[-1]
    assert last.type == "response.incomplete", last.type
    assert last.response.incomplete_details.reason == "max_output_tokens", last
    assert balance_nano(small) == before - nano(last.model_extra["farthing"]["charged"]["amount"])


run([chat, chat_stream, chat_stream_usage, responses, responses_stream, empty_balance, lost_answer, stream_outlives_balance])
