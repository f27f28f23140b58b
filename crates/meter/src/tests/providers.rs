//! Requests and answers of the dialects beyond OpenAI's and Anthropic's: what the vectors do not cover.

use money::{Amount, Rate};
use serde_json::Value;

use super::{Answer, charge};
use crate::RequestError as E;
use crate::{
    Basis, Bucket, Dialect as D, End, EstimateBasis, HoldPolicy, RequestFacts, RequestHead, Terminal,
    ceiling, scan_request_at,
};
use tariff::Rates;

const GEMINI: &str = "/v1beta/models/gemini-3.7-flash:generateContent?key=k";
const GEMINI_STREAM: &str = "/v1beta/models/gemini-3.7-flash:streamGenerateContent?alt=sse";
const FORM: &str = "multipart/form-data; boundary=b";

fn scan(dialect: D, body: &str) -> Result<RequestFacts, E> {
    let path = if dialect == D::GeminiEmbed { "/v1/models/e:batchEmbedContents" } else { GEMINI };
    let head = RequestHead { path, content_type: Some(FORM), model: Some("the-model"), asks_events: false };
    scan_request_at(dialect, &head, body.as_bytes())
}

fn rewrite(dialect: D, body: &str, clamp: Option<u64>) -> String {
    String::from_utf8(scan(dialect, body).unwrap().rewrite(body.as_bytes(), clamp, true).into_owned())
        .unwrap()
}

fn form(parts: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| {
        let file = if *name == "file" || *name == "image" { "; filename=\"f\"" } else { "" };
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
    };
    format!("{}--b--\r\n", parts.iter().map(part).collect::<String>())
}

/// MTR-34: where each dialect has its limit.
#[test]
fn limits_by_dialect() {
    let (dash, ollama, llama) = (D::DashScope, D::OllamaChat, D::LlamaCppCompletion);
    for (case, dialect, body, expected) in [
        (
            "gemini, none",
            D::GeminiGenerate,
            r#"{"contents":[]}"#,
            r#"{"generationConfig":{"maxOutputTokens":300},"contents":[]}"#,
        ),
        (
            "gemini, an empty body",
            D::GeminiGenerate,
            "{ }",
            r#"{"generationConfig":{"maxOutputTokens":300} }"#,
        ),
        (
            "gemini, lowered",
            D::GeminiGenerate,
            r#"{"generationConfig":{"maxOutputTokens":900}}"#,
            r#"{"generationConfig":{"maxOutputTokens":300}}"#,
        ),
        (
            "gemini, never raised",
            D::GeminiGenerate,
            r#"{"generationConfig":{"maxOutputTokens":9}}"#,
            r#"{"generationConfig":{"maxOutputTokens":9}}"#,
        ),
        (
            "gemini, underscores",
            D::GeminiGenerate,
            r#"{"generation_config":{"max_output_tokens":900}}"#,
            r#"{"generation_config":{"max_output_tokens":300}}"#,
        ),
        (
            "gemini, object without it",
            D::GeminiGenerate,
            r#"{"generation_config":{"topK":1}}"#,
            r#"{"generation_config":{"maxOutputTokens":300,"topK":1}}"#,
        ),
        (
            "gemini, empty object",
            D::GeminiGenerate,
            r#"{"generationConfig":{}}"#,
            r#"{"generationConfig":{"maxOutputTokens":300}}"#,
        ),
        (
            "gemini, null",
            D::GeminiGenerate,
            r#"{"generationConfig":null}"#,
            r#"{"generationConfig":{"maxOutputTokens":300}}"#,
        ),
        (
            "gemini, limit null",
            D::GeminiGenerate,
            r#"{"generationConfig":{"maxOutputTokens":null}}"#,
            r#"{"generationConfig":{"maxOutputTokens":300}}"#,
        ),
        (
            "dashscope, none",
            dash,
            r#"{"model":"m","input":{}}"#,
            r#"{"parameters":{"max_tokens":300},"model":"m","input":{}}"#,
        ),
        (
            "dashscope, lowered",
            dash,
            r#"{"model":"m","parameters":{"max_tokens":301}}"#,
            r#"{"model":"m","parameters":{"max_tokens":300}}"#,
        ),
        ("ollama, none", ollama, r#"{"model":"m"}"#, r#"{"options":{"num_predict":300},"model":"m"}"#),
        (
            "ollama, no limit wanted",
            ollama,
            r#"{"model":"m","options":{"num_predict":-1}}"#,
            r#"{"model":"m","options":{"num_predict":300}}"#,
        ),
        (
            "ollama, zero is no limit",
            ollama,
            r#"{"model":"m","options":{"num_predict":0}}"#,
            r#"{"model":"m","options":{"num_predict":300}}"#,
        ),
        (
            "ollama, generate",
            D::OllamaGenerate,
            r#"{"model":"m","options":{"num_predict":999}}"#,
            r#"{"model":"m","options":{"num_predict":300}}"#,
        ),
        ("llama.cpp, none", llama, r#"{"prompt":"a"}"#, r#"{"n_predict":300,"prompt":"a"}"#),
        ("llama.cpp, other name", llama, r#"{"max_tokens":999}"#, r#"{"max_tokens":300}"#),
        (
            "llama.cpp, both, one without limit",
            llama,
            r#"{"max_tokens":7,"n_predict":-1}"#,
            r#"{"max_tokens":7,"n_predict":300}"#,
        ),
        (
            "deepseek",
            D::DeepSeekChat,
            r#"{"model":"m","max_tokens":999}"#,
            r#"{"model":"m","max_tokens":300}"#,
        ),
        ("speech has none", D::OpenAiSpeech, r#"{"model":"m","input":"a"}"#, r#"{"model":"m","input":"a"}"#),
        (
            "images have none",
            D::OpenAiImages,
            r#"{"model":"m","prompt":"a"}"#,
            r#"{"model":"m","prompt":"a"}"#,
        ),
    ] {
        // What is not said to be a form is JSON.
        let head = RequestHead { path: GEMINI, model: Some("the-model"), ..RequestHead::default() };
        let facts = scan_request_at(dialect, &head, body.as_bytes()).unwrap();
        let new = facts.rewrite(body.as_bytes(), Some(300), true);
        assert_eq!(std::str::from_utf8(&new).unwrap(), expected, "{case}");
        serde_json::from_slice::<Value>(&new).unwrap();
    }
    assert_eq!(scan(llama, r#"{"max_tokens":7,"n_predict":-1}"#).unwrap().max_output, None);
    assert_eq!(scan(ollama, r#"{"model":"m","options":{"num_predict":5}}"#).unwrap().max_output, Some(5));
}

/// MTR-20, MTR-23: who is asked for usage, and for what.
#[test]
fn usage_is_asked_for_by_provider() {
    let plain = r#"{"model":"m","stream":true}"#;
    let with = |options: &str| format!(r#"{{"stream_options":{options},"model":"m","stream":true}}"#);
    for dialect in
        [D::DeepSeekChat, D::QwenChat, D::DoubaoChat, D::MoonshotChat, D::MiniMaxChat, D::TogetherChat]
    {
        assert_eq!(rewrite(dialect, plain, None), with(r#"{"include_usage":true}"#), "{dialect:?}");
    }
    for dialect in
        [D::ZhipuChat, D::GroqChat, D::OpenRouterChat, D::OllamaChat, D::LlamaCppCompletion, D::DashScope]
    {
        assert!(!scan(dialect, plain).unwrap().will_inject(true), "{dialect:?}");
        assert_eq!(rewrite(dialect, plain, None), plain, "{dialect:?}");
    }
    for (options, expected) in [
        ("null", r#"{"include_usage":true,"continuous_usage_stats":true}"#),
        (r#"{"a":1}"#, r#"{"include_usage":true,"continuous_usage_stats":true,"a":1}"#),
        (r#"{"include_usage":false}"#, r#"{"include_usage":true,"continuous_usage_stats":true}"#),
        (r#"{"continuous_usage_stats":false}"#, r#"{"include_usage":true,"continuous_usage_stats":false}"#),
        (r#"{"include_usage":true}"#, r#"{"include_usage":true}"#),
    ] {
        assert_eq!(rewrite(D::VllmChat, &with(options), None), with(expected), "{options}");
    }
}

#[test]
fn facts_by_dialect() {
    let facts = |dialect, body: &str| scan(dialect, body).unwrap();
    let gemini = facts(
        D::GeminiGenerate,
        r#"{"contents":[{"parts":[{"inlineData":{"data":"AAAA"}}]},{}],"generationConfig":{"candidateCount":2},
            "tools":[{"functionDeclarations":[{"name":"f","parameters":{"type":"OBJECT"}}]}],"model":"models/gemini-3.7-flash"}"#,
    );
    assert_eq!((gemini.model.as_str(), gemini.stream, gemini.messages), ("gemini-3.7-flash", false, 2));
    assert_eq!((gemini.choices, gemini.media_parts, gemini.media_bytes, gemini.extras), (2, 1, 6, false));
    let head = RequestHead { path: GEMINI_STREAM, ..RequestHead::default() };
    assert!(scan_request_at(D::GeminiGenerate, &head, b"{}").unwrap().stream);
    for (extras, tools) in [
        (true, r#"[{"googleSearch":{}}]"#),
        (true, r#"[{"functionDeclarations":[]},{"codeExecution":{}}]"#),
        (true, r#"[{"someTomorrowTool":{}}]"#),
        (false, r#"[{"function_declarations":[{"name":"googleSearch"}]}]"#),
    ] {
        let body = format!(r#"{{"contents":[],"tools":{tools}}}"#);
        assert_eq!(facts(D::GeminiGenerate, &body).extras, extras, "{tools}");
    }
    for stored in [
        r#"{"contents":[{"parts":[{"fileData":{"fileUri":"files/x"}}]}]}"#,
        r#"{"contents":[{"parts":[{"file_data":{"file_uri":"https://a"}}]}]}"#,
        r#"{"cachedContent":"cachedContents/x"}"#,
        r#"{"cached_content":"cachedContents/x"}"#,
    ] {
        assert!(facts(D::GeminiGenerate, stored).stored_input, "{stored}");
    }
    assert_eq!(facts(D::GeminiEmbed, r#"{"requests":[{"model":"models/e"},{"model":"e"}]}"#).messages, 2);

    for (stream, body) in [
        (true, r#"{"model":"m"}"#),
        (true, r#"{"model":"m","stream":null}"#),
        (false, r#"{"model":"m","stream":false}"#),
    ] {
        assert_eq!(facts(D::OllamaChat, body).stream, stream, "{body}");
    }
    let ollama = facts(D::OllamaChat, r#"{"model":"m","messages":[{"images":["AA","BB"]},{}]}"#);
    assert_eq!((ollama.messages, ollama.media_parts, ollama.media_bytes), (2, 2, 8));

    let events = RequestHead { asks_events: true, ..RequestHead::default() };
    let dash = br#"{"model":"m","input":{"messages":[{},{}]},"parameters":{"enable_search":false}}"#;
    let dash = scan_request_at(D::DashScope, &events, dash).unwrap();
    assert_eq!((dash.stream, dash.messages, dash.extras), (true, 2, false));
    assert!(facts(D::DashScope, r#"{"model":"m","parameters":{"enable_search":true}}"#).extras);
    assert!(facts(D::QwenChat, r#"{"model":"m","enable_search":true}"#).extras);
    assert!(facts(D::OpenRouterChat, r#"{"model":"m","models":["dear"]}"#).extras);

    assert_eq!(facts(D::LlamaCppCompletion, r#"{"model":"cheap","prompt":"a"}"#).model, "the-model");
    for (characters, input) in [
        (26, "The quick brown fox jumped"),
        (2, "你好"),
        (3, r#"\n\"x"#),
        (2, r"\u00e9\ud83d\ude80"),
        (3, r"\\uD\u0041"),
        (0, ""),
    ] {
        let body = format!(r#"{{"model":"tts-1","input":"{input}"}}"#);
        let characters = if input == r"\\uD\u0041" { characters + 1 } else { characters };
        assert_eq!(facts(D::OpenAiSpeech, &body).characters, Some(characters), "{input}");
    }

    let upload = form(&[
        ("model", "whisper-1"),
        ("file", "12345678"),
        ("stream", "true"),
        ("response_format", "json"),
    ]);
    let audio = facts(D::OpenAiAudio, &upload);
    assert_eq!((audio.model.as_str(), audio.stream, audio.extras), ("whisper-1", true, false));
    assert_eq!((audio.media_parts, audio.media_bytes), (1, 8));
    let text = form(&[("model", "whisper-1"), ("file", "1"), ("response_format", "text")]);
    assert!(facts(D::OpenAiAudio, &text).extras, "a transcript as text reports nothing");
    let edit =
        facts(D::OpenAiImages, &form(&[("model", "i"), ("image", "123"), ("n", "3"), ("prompt", "p")]));
    assert_eq!((edit.choices, edit.media_bytes, edit.messages), (3, 3, 1));
}

/// What might make the upstream run something else than what is priced.
#[test]
fn refusals_by_dialect() {
    for (case, dialect, body, error) in [
        ("another model in the body", D::GeminiGenerate, r#"{"model":"models/gemini-pro"}"#, E::OtherModel),
        (
            "another model in one request",
            D::GeminiEmbed,
            r#"{"requests":[{"model":"e"},{"model":"f"}]}"#,
            E::OtherModel,
        ),
        (
            "two spellings of the object",
            D::GeminiGenerate,
            r#"{"generationConfig":{},"generation_config":{}}"#,
            E::Duplicate("generationConfig"),
        ),
        (
            "two spellings of the limit",
            D::GeminiGenerate,
            r#"{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":9}}"#,
            E::Duplicate("maxOutputTokens"),
        ),
        ("another case", D::GeminiGenerate, r#"{"generationconfig":{}}"#, E::Lookalike("generationConfig")),
        (
            "limit as text, which Google takes",
            D::GeminiGenerate,
            r#"{"generationConfig":{"maxOutputTokens":"9"}}"#,
            E::WrongType("maxOutputTokens"),
        ),
        ("object a list", D::GeminiGenerate, r#"{"generationConfig":[]}"#, E::WrongType("generationConfig")),
        ("go decoders ignore case", D::OllamaChat, r#"{"model":"m","Options":{}}"#, E::Lookalike("options")),
        (
            "a fraction",
            D::OllamaChat,
            r#"{"model":"m","options":{"num_predict":1.5}}"#,
            E::WrongType("num_predict"),
        ),
        (
            "several answers in one stream",
            D::LlamaCppCompletion,
            r#"{"prompt":["a","b"]}"#,
            E::WrongType("n"),
        ),
        ("several images in one stream", D::OpenAiImages, r#"{"model":"m","n":2,"stream":true}"#, E::NotForm),
        ("no text to speak", D::OpenAiSpeech, r#"{"model":"m","input":["a"]}"#, E::WrongType("input")),
        (
            "not a flag",
            D::VllmChat,
            r#"{"model":"m","stream_options":{"continuous_usage_stats":1}}"#,
            E::WrongType("continuous_usage_stats"),
        ),
        ("an upload that is JSON", D::OpenAiAudio, r#"{"model":"m"}"#, E::NotForm),
        ("two models", D::OpenAiAudio, &form(&[("model", "a"), ("model", "b")]), E::Duplicate("model")),
        (
            "another case in a form",
            D::OpenAiAudio,
            &form(&[("model", "a"), ("Model", "b")]),
            E::Lookalike("model"),
        ),
        (
            "model as a file",
            D::OpenAiAudio,
            &form(&[("model", "a"), ("file", "x")]).replace("\"model\"", "\"model\"; filename=\"m\""),
            E::NotForm,
        ),
        ("stream no flag", D::OpenAiAudio, &form(&[("model", "a"), ("stream", "1")]), E::WrongType("stream")),
        (
            "several images in one stream",
            D::OpenAiImages,
            &form(&[("model", "a"), ("n", "2"), ("stream", "true")]),
            E::WrongType("n"),
        ),
        ("no number", D::OpenAiImages, &form(&[("model", "a"), ("n", "two")]), E::WrongType("n")),
        ("no model", D::OpenAiImages, &form(&[("prompt", "a")]), E::NoModel),
    ] {
        assert_eq!(scan(dialect, body), Err(error), "{case}");
    }
    for path in ["", "/v1beta/models/a%2Fb:generateContent", "/v1beta/generateContent"] {
        let head = RequestHead { path, ..RequestHead::default() };
        assert_eq!(scan_request_at(D::GeminiGenerate, &head, b"{}"), Err(E::NoModel), "{path}");
    }
    let no_name = scan_request_at(D::LlamaCppCompletion, &RequestHead::default(), b"{\"prompt\":\"a\"}");
    assert_eq!(no_name, Err(E::NoModel), "nobody says what the model is");
}

/// Answers at every chunking: ends, and where usage stands.
#[test]
fn readings_by_dialect() {
    let line = |text: &str| format!("{{\"message\":{{\"content\":\"{text}\"}},\"done\":false}}\n");
    let done = "{\"done\":true,\"prompt_eval_count\":3,\"eval_count\":2}";
    let early = r#"{"candidates":[{"content":{"parts":[{"text":"12345678"}]}}],"usageMetadata":{"promptTokenCount":8,"totalTokenCount":8}}"#;
    let last = r#"{"candidates":[{"content":{"parts":[{"text":"!"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":4,"thoughtsTokenCount":2}}"#;
    let dash = |text: &str, stop: &str, output: u64| {
        format!(
            "data:{{\"output\":{{\"choices\":[{{\"message\":{{\"content\":\"{text}\"}},\"finish_reason\":\"{stop}\"}}]}},\"usage\":{{\"input_tokens\":5,\"output_tokens\":{output}}}}}\n\n"
        )
    };
    let (chat, gemini) = (D::OllamaChat, D::GeminiGenerate);
    type Row = (&'static str, D, String, End, Basis, Terminal, Option<(Option<u64>, Option<u64>)>, u64);
    let rows: Vec<Row> = vec![
        ("lines", chat, format!("{}{done}\n", line("ab")), End::Eof, Basis::Reported, Terminal::Done, Some((Some(3), Some(2))), 2),
        ("lines with CR LF and blanks", chat, format!("\r\n{}\r\n{done}", line("ab").replace('\n', "\r\n")), End::Eof, Basis::Reported, Terminal::Done, Some((Some(3), Some(2))), 2),
        ("a document over several lines", chat, done.replace(',', ",\n "), End::Eof, Basis::Reported, Terminal::Done, Some((Some(3), Some(2))), 0),
        ("a broken line takes no other with it", chat, format!("{{\"message\":{{\"content\":\"a\n{}{done}\n", line("ab")), End::Eof, Basis::Reported, Terminal::Done, Some((Some(3), Some(2))), 2),
        ("usage of a line that is not the last", chat, "{\"done\":false,\"eval_count\":9}\n".to_owned(), End::Eof, Basis::Estimate, Terminal::EofWithoutDone, None, 0),
        ("MTR-13 nothing after the last line", chat, format!("{done}\n{}{{\"done\":true,\"eval_count\":99}}\n", line("ab")), End::Eof, Basis::Reported, Terminal::Done, Some((Some(3), Some(2))), 0),
        ("an error line", chat, format!("{}{{\"error\":\"out of memory\"}}\n", line("ab")), End::Eof, Basis::Estimate, Terminal::Error, None, 2),
        ("an error at once", chat, "{\"error\":\"no such model\"}".to_owned(), End::Eof, Basis::None, Terminal::Error, None, 0),
        ("cut in a line", chat, format!("{}{{\"mess", line("ab")), End::Eof, Basis::Estimate, Terminal::EofWithoutDone, None, 2),
        ("item 28 an unterminated last line is dropped on reset", chat, format!("{}{done}", line("ab")), End::Reset, Basis::Estimate, Terminal::Truncated, None, 2),
        ("client gone", chat, line("ab"), End::ClientGone, Basis::Estimate, Terminal::ClientGone, None, 2),
        ("array", gemini, format!("[{early}\r\n,\r\n{last}\n]\n"), End::Eof, Basis::Reported, Terminal::Complete, Some((Some(8), Some(6))), 9),
        ("an empty array", gemini, "[]".to_owned(), End::Eof, Basis::Estimate, Terminal::Complete, None, 0),
        ("a cut array", gemini, format!("[{early},{}", &last[..40]), End::Eof, Basis::ReportedPartial, Terminal::Truncated, Some((Some(8), Some(0))), 8),
        ("an array that goes on with no comma", gemini, format!("[{early} {last}]"), End::Eof, Basis::ReportedPartial, Terminal::MeterLimit, Some((Some(8), Some(0))), 8),
        ("MTR-13 nothing after the array", gemini, format!("[{last}] [{early}]"), End::Eof, Basis::Reported, Terminal::Complete, Some((Some(8), Some(6))), 1),
        ("an error in an array", gemini, format!("[{early},{{\"error\":{{\"code\":500}}}}]"), End::Eof, Basis::ReportedPartial, Terminal::Error, Some((Some(8), Some(0))), 8),
        ("events", gemini, format!("data: {early}\r\n\r\ndata: {last}\r\n\r\n"), End::Eof, Basis::Reported, Terminal::FinishReasonStop, Some((Some(8), Some(6))), 9),
        ("events left early", gemini, format!("data: {early}\r\n\r\n"), End::ClientGone, Basis::ReportedPartial, Terminal::ClientGone, Some((Some(8), Some(0))), 8),
        ("events without a stop", gemini, format!("data: {early}\r\n\r\n"), End::Eof, Basis::ReportedPartial, Terminal::EofWithoutDone, Some((Some(8), Some(0))), 8),
        ("a bad count beside the others voids the report", gemini, r#"{"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":2,"thoughtsTokenCount":-1}}"#.to_owned(), End::Eof, Basis::Estimate, Terminal::Complete, None, 0),
        ("pieces", D::DashScope, [dash("a", "null", 1), dash("bc", "null", 2), dash("d", "stop", 3)].concat(), End::Eof, Basis::Reported, Terminal::FinishReasonStop, Some((Some(5), Some(3))), 4),
        ("each time all so far", D::DashScope, [dash("a", "null", 1), dash("abc", "null", 2), dash("abcd", "stop", 3)].concat(), End::Eof, Basis::Reported, Terminal::FinishReasonStop, Some((Some(5), Some(3))), 4),
        ("pieces that looked like all so far", D::DashScope, [dash("ha", "null", 1), dash("haha", "null", 2), dash("!", "stop", 3)].concat(), End::Eof, Basis::Reported, Terminal::FinishReasonStop, Some((Some(5), Some(3))), 7),
        ("left early", D::DashScope, dash("a", "null", 1), End::ClientGone, Basis::ReportedPartial, Terminal::ClientGone, Some((Some(5), Some(1))), 1),
        ("an error at once", D::DashScope, "event:error\ndata:{\"code\":\"Throttling\",\"message\":\"m\"}\n\n".to_owned(), End::Eof, Basis::None, Terminal::Error, None, 0),
        ("item 34 hits beat the details", D::DeepSeekChat, r#"{"usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_cache_hit_tokens":4,"prompt_tokens_details":null}}"#.to_owned(), End::Eof, Basis::Reported, Terminal::Complete, Some((Some(9), Some(1))), 0),
        ("item 29 at the top of a document", D::MoonshotChat, r#"{"choices":[{"message":{"content":"ab"}}],"usage":{"prompt_tokens":9,"completion_tokens":1,"cached_tokens":3}}"#.to_owned(), End::Eof, Basis::Reported, Terminal::Complete, Some((Some(9), Some(1))), 2),
        ("item 27 a failure after output keeps the report", D::MiniMaxChat, r#"{"choices":[{"message":{"content":"ab"}}],"usage":{"prompt_tokens":9,"completion_tokens":1},"base_resp":{"status_code":1000}}"#.to_owned(), End::Eof, Basis::Reported, Terminal::Error, Some((Some(9), Some(1))), 2),
        ("code zero is no failure", D::MiniMaxChat, r#"{"choices":[{"message":{"content":"ab"}}],"usage":{"prompt_tokens":9,"completion_tokens":1},"base_resp":{"status_code":0}}"#.to_owned(), End::Eof, Basis::Reported, Terminal::Complete, Some((Some(9), Some(1))), 2),
        ("item 25 the whole text at the end says nothing new", D::MiniMaxChat, "data: {\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":\"ab\"}}]}\n\n".to_owned(), End::Eof, Basis::Estimate, Terminal::EofWithoutDone, None, 2),
        ("a place of another provider", D::DoubaoChat, "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"x_groq\":{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}}\n\n".to_owned(), End::Eof, Basis::Estimate, Terminal::EofWithoutDone, None, 0),
        ("an empty reason is none", D::DoubaoChat, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n".to_owned(), End::Eof, Basis::ReportedPartial, Terminal::EofWithoutDone, Some((Some(1), Some(1))), 1),
        ("running totals", D::LlamaCppCompletion, "data: {\"content\":\"ab\",\"stop\":false,\"tokens_predicted\":1,\"tokens_evaluated\":9}\n\n".to_owned(), End::ClientGone, Basis::ReportedPartial, Terminal::ClientGone, Some((Some(9), Some(1))), 2),
        ("a transcript as text is no stream", D::OpenAiAudio, "data: is the new oil\n\n".to_owned(), End::Eof, Basis::Estimate, Terminal::MeterLimit, None, 0),
        ("seconds that are none", D::OpenAiAudio, r#"{"text":"a","usage":{"type":"duration","seconds":-1}}"#.to_owned(), End::Eof, Basis::Estimate, Terminal::Complete, None, 1),
    ];
    for (case, dialect, body, end, basis, terminal, sides, text) in rows {
        let mut answer = Answer::events(dialect, body.as_bytes());
        if dialect == D::OpenAiAudio {
            answer.head.content_type = Some("text/plain");
        }
        answer.end = end;
        let (metered, client) = answer.check();
        assert_eq!(client, body.as_bytes(), "{case}");
        let seen = metered.usage.map(|usage| (usage.input_total, usage.output_total));
        assert_eq!((metered.basis, metered.terminal, seen), (basis, terminal, sides), "{case}");
        assert_eq!(metered.text_bytes, text, "{case}");
    }
}

/// A report of the input alone covers no output: what was delivered is estimated on top.
#[test]
fn gemini_left_before_its_first_count_is_not_free() {
    let body = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"12345678\"}]}}],\"usageMetadata\":{\"promptTokenCount\":8,\"totalTokenCount\":8}}\r\n\r\n";
    let mut answer = Answer::events(D::GeminiGenerate, body.as_bytes());
    answer.end = End::ClientGone;
    let bill = charge(&price(), &answer.check().0, &basis_of(40)).unwrap();
    assert_eq!((bill.nano, bill.estimated), (Amount::from_units(8 + 2 * 10), true));
}

/// 1 nano-USD for a prompt token, 10 for a generated one.
fn price() -> Rates {
    Rates { input: nano(1), output: nano(10), ..Rates::default() }
}

const fn nano(nano: u64) -> Rate {
    Rate::from_femto(nano * 1_000_000)
}

const fn basis_of(body_bytes: u64) -> EstimateBasis {
    EstimateBasis {
        body_bytes,
        messages: 0,
        media_parts: 0,
        media_bytes: 0,
        max_output: None,
        choices: 1,
        counted: crate::Counted::NOTHING,
    }
}

/// MTR-44 and units that are no tokens.
#[test]
fn units_table() {
    let image = Rates { image: Some(nano(1000)), ..price() };
    let spoken = Rates { character: Some(nano(3)), ..Rates::default() };
    let timed = Rates { second: Some(nano(2000)), ..Rates::default() };
    let bytes =
        Rates { response_byte: Some(nano(1)), per_call: Some(Amount::from_units(7)), ..Rates::default() };
    let both =
        r#"{"data":[{"b64_json":"AA"},{"b64_json":"AA"}],"usage":{"input_tokens":5,"output_tokens":9}}"#;
    let silent = r#"{"data":[{"url":"a"},{"url":"b"}]}"#;
    let transcript = r#"{"text":"12345678","usage":{"type":"duration","seconds":9.5}}"#;
    let tokens = r#"{"text":"a","usage":{"type":"tokens","input_tokens":14,"output_tokens":5}}"#;
    for (case, dialect, price, body, expected, estimated) in [
        ("images by the piece, reported too", D::OpenAiImages, image, both, 2000 + 5, false),
        ("images by the piece", D::OpenAiImages, image, silent, 2000, false),
        ("images by the token", D::OpenAiImages, price(), both, 5 + 90, false),
        ("images by the token, not reported", D::OpenAiImages, price(), silent, 10 + 2 * 62_400, true),
        ("speech by the character", D::OpenAiSpeech, spoken, "\u{1}\u{2}", 78, false),
        ("speech that did not come", D::OpenAiSpeech, spoken, "", 0, false),
        ("sound by the second", D::OpenAiAudio, timed, transcript, 19_000, false),
        ("sound by the second, reported in tokens", D::OpenAiAudio, timed, tokens, 4000, true),
        ("sound by the token, reported in seconds", D::OpenAiAudio, price(), transcript, 1600 + 2 * 10, true),
        ("raw by the byte", D::Raw, bytes, "12345", 5 + 7, false),
        ("raw by the second", D::Raw, timed, "12345", 3000, false),
    ] {
        let facts = scan_request_at(
            D::OpenAiSpeech,
            &RequestHead::default(),
            br#"{"model":"m","input":"The quick brown fox jumped"}"#,
        )
        .unwrap();
        let mut answer = Answer::events(dialect, body.as_bytes());
        answer.head.content_type = None;
        answer.request = Some(&facts);
        answer.elapsed_milli = 1500;
        let basis = if dialect == D::OpenAiAudio {
            EstimateBasis { media_parts: 1, media_bytes: 8000, ..basis_of(8000) }
        } else {
            basis_of(40)
        };
        let bill = charge(&price, &answer.check().0, &basis).unwrap();
        assert_eq!((bill.nano, bill.estimated), (Amount::from_units(expected), estimated), "{case}");
        assert_eq!(
            bill.lines.iter().any(|line| line.bucket == Bucket::Millisecond),
            price.second.is_some(),
            "{case}"
        );
    }
}

/// A unit that the meter has to be told is never free because nobody told it.
#[test]
fn what_was_not_counted_has_no_bill() {
    let spoken = Rates { character: Some(nano(3)), ..Rates::default() };
    let timed = Rates { second: Some(nano(3)), ..Rates::default() };
    for (dialect, price) in [(D::OpenAiSpeech, spoken), (D::Raw, timed)] {
        let head =
            crate::Head { status: 200, content_type: None, content_encoding: None, hide_usage_chunk: false };
        let mut meter = crate::Meter::new(dialect, head);
        meter.feed(bytes::Bytes::from_static(b"12345"), &mut Vec::new());
        let metered = meter.end(End::Eof, &mut Vec::new());
        assert_eq!(
            charge(&price, &metered, &basis_of(40)),
            Err(crate::ChargeError::Uncounted),
            "{dialect:?}"
        );
    }
}

/// MTR-32: what units may come to, and that what has no bound is not sold.
#[test]
fn holds_of_units_table() {
    let hold = |dialect, price: &Rates, body: &str| {
        let facts = scan(dialect, body).unwrap();
        ceiling(price, &facts, body.len() as u64, &HoldPolicy::default())
            .map(|ceiling| ceiling.nano.units())
            .ok()
    };
    let images = form(&[("model", "i"), ("n", "3")]);
    let text = i64::try_from(images.len().div_ceil(2)).unwrap();
    let image = Rates { image: Some(nano(1000)), ..price() };
    assert_eq!(hold(D::OpenAiImages, &image, &images), Some(text + 3000));
    assert_eq!(hold(D::OpenAiImages, &price(), &images), Some(text + 3 * 81_920));
    let capped = Rates { max_output_tokens: Some(10), ..price() };
    assert_eq!(hold(D::OpenAiImages, &capped, &images), Some(text + 3 * 100));
    let sound = form(&[("model", "w"), ("file", &"x".repeat(5000))]);
    let timed = Rates { second: Some(nano(2000)), ..Rates::default() };
    assert_eq!(hold(D::OpenAiAudio, &timed, &sound), Some(10 * 2000));
    assert_eq!(hold(D::OpenAiAudio, &Rates { max_seconds: Some(4), ..timed }, &sound), Some(4 * 2000));
    let speech = r#"{"model":"tts","input":"12345"}"#;
    let spoken = Rates { character: Some(nano(3)), ..Rates::default() };
    assert_eq!(hold(D::OpenAiSpeech, &spoken, speech), Some(15));
    assert_eq!(hold(D::OpenAiSpeech, &price(), speech), None, "tokens are not what speech is counted in");
    let bytes = Rates { response_byte: Some(nano(1)), ..Rates::default() };
    assert_eq!(hold(D::Raw, &bytes, ""), None);
    assert_eq!(hold(D::Raw, &Rates { max_response_bytes: Some(9), ..bytes }, ""), Some(9));
    assert_eq!(hold(D::Raw, &timed, ""), None);
    assert_eq!(hold(D::Raw, &Rates { max_seconds: Some(9), ..timed }, ""), Some(18_000));
}
