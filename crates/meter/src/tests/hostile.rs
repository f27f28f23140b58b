//! Upstreams that mean harm, or are broken: no bill beyond the report, no memory beyond its bound.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Answer;
use crate::{Basis, Dialect as D, End, Head, Meter, Metered, Terminal};

/// What a meter may hold on to, whatever comes: the event held back, the event kept, and its buffers.
const HELD_BYTES_MAX: usize = 64 * 1024 + (64 << 10);

/// Feeds `body`, then `filler` over and over until `bytes` of it were fed, then `tail`. Nothing may be held back
/// but what a meter may hold.
fn flood(dialect: D, head: Head<'_>, body: &str, filler: &[u8], bytes: usize, tail: &str) -> Metered {
    let mut meter = Meter::new(dialect, head);
    let (mut out, mut fed, mut got) = (Vec::new(), 0, 0);
    let filler = Bytes::copy_from_slice(filler);
    let mut feed = |chunk: Bytes, meter: &mut Meter| {
        fed += chunk.len();
        meter.feed(chunk, &mut out);
        got += out.drain(..).map(|piece: Bytes| piece.len()).sum::<usize>();
        assert!(fed - got <= HELD_BYTES_MAX, "{dialect:?}: {} held back", fed - got);
        assert!(meter.held_bytes() <= HELD_BYTES_MAX, "{dialect:?}: {} in buffers", meter.held_bytes());
    };
    feed(Bytes::copy_from_slice(body.as_bytes()), &mut meter);
    for _ in 0..bytes.div_ceil(filler.len()) {
        feed(filler.clone(), &mut meter);
    }
    feed(Bytes::copy_from_slice(tail.as_bytes()), &mut meter);
    meter.end(End::Eof, &mut Vec::new())
}

fn head(hide_usage_chunk: bool) -> Head<'static> {
    Head { status: 200, content_type: None, content_encoding: None, hide_usage_chunk }
}

/// MTR-16: a line of a gigabyte is relayed as it comes and not kept, and what follows it counts.
#[test]
fn a_line_of_a_gigabyte_is_not_kept() {
    let filler = vec![b'x'; 1 << 20];
    let chat = "\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    for (case, dialect, body, tail, terminal) in [
        ("data", D::OpenAiChat, "data: {\"choices\":[{\"delta\":{\"content\":\"", chat, Terminal::Done),
        (
            "comment",
            D::OpenAiChat,
            ": ",
            "\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
            Terminal::Done,
        ),
        (
            "line",
            D::OllamaChat,
            "{\"message\":{\"content\":\"",
            "\"}}\n{\"done\":true,\"prompt_eval_count\":3,\"eval_count\":2}\n",
            Terminal::Done,
        ),
        (
            "element",
            D::GeminiGenerate,
            "[{\"x\":\"",
            "\"},{\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":2},\"candidates\":[{\"finishReason\":\"STOP\"}]}]",
            Terminal::Complete,
        ),
        (
            "key",
            D::OpenAiChat,
            "{\"",
            "\":1,\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}",
            Terminal::Complete,
        ),
    ] {
        for hide in [false, true] {
            let metered = flood(dialect, head(hide), body, &filler, 1 << 30, tail);
            assert_eq!((metered.basis, metered.terminal), (Basis::Reported, terminal), "{case}");
            let usage = metered.usage.unwrap();
            assert_eq!((usage.input_total, usage.output_total), (Some(3), Some(2)), "{case}");
        }
    }
}

/// Streams and arrays that never end, of events that are read by the short cut or never.
#[test]
fn an_endless_stream_takes_no_more_memory() {
    let chat = "data: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\n\n";
    for (dialect, body, event, text) in [
        (D::OpenAiChat, "", chat, 4),
        (D::OpenAiChat, "", "id: 1\ndata: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\n\n", 4),
        (D::OllamaGenerate, "", "{\"response\":\"word\"}\n", 4),
        (D::GeminiGenerate, "[{}", ",{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"word\"}]}}]}", 4),
        (D::DashScope, "", "data:{\"output\":{\"text\":\"word\"}}\n\n", 0),
        (D::OpenAiChat, "", "\n", 0),
        (D::OpenAiChat, "", ": ping\n\n", 0),
        (D::GeminiGenerate, "[", "[", 0),
        (D::OllamaChat, "", "{\"a\":[", 0),
    ] {
        let filler = event.repeat(1000);
        let metered = flood(dialect, head(true), body, filler.as_bytes(), filler.len() * 40, "");
        assert_ne!(metered.basis, Basis::Reported, "{event}");
        if text > 0 {
            assert_eq!(metered.text_bytes, 40_000 * text, "{event}");
        }
    }
}

/// MTR-16: what inflates beyond its bound is opaque, and costs an estimate of what came in at most.
#[test]
fn a_bomb_is_not_inflated_whole() {
    let mut coder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..64 {
        coder.write_all(&zeros).unwrap();
    }
    let bomb = coder.finish().unwrap();
    for dialect in [D::OpenAiChat, D::OllamaChat, D::GeminiGenerate, D::OpenAiAudio] {
        let head = Head { content_encoding: Some("gzip"), ..head(false) };
        let mut meter = Meter::new(dialect, head);
        for chunk in bomb.chunks(4096) {
            meter.feed(Bytes::copy_from_slice(chunk), &mut Vec::new());
            assert!(meter.held_bytes() <= 2 << 20, "{} in buffers", meter.held_bytes());
        }
        let metered = meter.end(End::Eof, &mut Vec::new());
        assert_eq!((metered.basis, metered.terminal), (Basis::Estimate, Terminal::MeterLimit), "{dialect:?}");
    }
}

/// MTR-8: no dialect takes a figure that is no count. A report that stands elsewhere, or twice, changes nothing
/// or the last one holds.
#[test]
fn figures_that_are_no_counts_are_not_billed() {
    let places = [
        (D::DeepSeekChat, r#"{"usage":{"prompt_tokens":@,"completion_tokens":2}}"#),
        (D::GroqChat, r#"{"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":@}}}"#),
        (D::MoonshotChat, r#"{"choices":[{"usage":{"prompt_tokens":3,"completion_tokens":@}}]}"#),
        (D::DashScope, r#"{"usage":{"input_tokens":@,"output_tokens":2}}"#),
        (D::GeminiGenerate, r#"{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":@}}"#),
        (D::GeminiGenerate, r#"{"usageMetadata":{"promptTokenCount":3,"toolUsePromptTokenCount":@}}"#),
        (D::OllamaChat, r#"{"done":true,"prompt_eval_count":3,"eval_count":@}"#),
        (D::LlamaCppCompletion, r#"{"stop":true,"tokens_evaluated":@,"tokens_predicted":2}"#),
        (D::OpenAiImages, r#"{"usage":{"input_tokens":@,"output_tokens":2}}"#),
        (D::OpenAiAudio, r#"{"usage":{"type":"duration","seconds":@}}"#),
    ];
    for (dialect, body) in places {
        let read = |figure: &str| {
            let body = body.replace('@', figure);
            Answer { head: head(false), ..Answer::events(dialect, body.as_bytes()) }.check().0
        };
        assert_eq!(read("7").basis, Basis::Reported, "{body}");
        for figure in ["-1", "1e300", "\"x\"", "true", "[7]", "{}", "9007199254740993000000"] {
            let metered = read(figure);
            assert_eq!((metered.basis, metered.usage), (Basis::Estimate, None), "{figure} in {body}");
        }
        // At another place than its own it is nothing.
        let elsewhere = format!("{{\"echo\":{}}}", body.replace('@', "7"));
        let answer = Answer { head: head(false), ..Answer::events(dialect, elsewhere.as_bytes()) };
        assert_eq!(answer.check().0.usage, None, "{elsewhere}");
        // Twice: the last one holds, as in every map.
        let inner = body.trim_start_matches('{').strip_suffix('}').unwrap();
        let twice = format!("{{{},{}}}", inner.replace('@', "900"), inner.replace('@', "7"));
        let answer = Answer { head: head(false), ..Answer::events(dialect, twice.as_bytes()) };
        let (twice, once) = (answer.check().0, read("7"));
        assert_eq!(twice.usage, once.usage, "{body}");
    }
}

/// An image of any size is one image.
#[test]
fn images_are_counted_however_large() {
    for megabytes in [1, 7, 9, 20] {
        let data = "A".repeat(megabytes << 20);
        let body = format!(r#"{{"created":1,"data":[{{"b64_json":"{data}"}},{{"b64_json":"{data}"}}]}}"#);
        let head = Head {
            status: 200,
            content_type: Some("application/json"),
            content_encoding: None,
            hide_usage_chunk: false,
        };
        let answer = super::Answer { head, ..super::Answer::events(D::OpenAiImages, body.as_bytes()) };
        let (metered, _) = answer.run(&[64 * 1024]);
        assert_eq!(
            metered.usage.and_then(|usage| usage.images),
            Some(2),
            "{megabytes} MiB: {:?}",
            metered.terminal
        );
        let event = format!(
            "event: image_generation.completed\ndata: {{\"type\":\"image_generation.completed\",\"b64_json\":\"{data}\"}}\n\n"
        );
        let (metered, _) = super::Answer::events(D::OpenAiImages, event.as_bytes()).run(&[64 * 1024]);
        assert_eq!(
            metered.usage.and_then(|usage| usage.images),
            Some(1),
            "{megabytes} MiB stream: {:?}",
            metered.terminal
        );
    }
}

/// What is too long to be read was delivered all the same.
#[test]
fn an_event_beyond_reading_is_not_free() {
    let event =
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "a".repeat(9 << 20));
    let (metered, _) = super::Answer::events(D::OpenAiChat, event.as_bytes()).run(&[64 * 1024]);
    assert!(!metered.before_output && !crate::is_free(&metered), "{metered:?}");
}
