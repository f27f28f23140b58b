//! What the meter costs per event of a stream: the short cut for events that look like the one before beside a
//! full scan of each, in the same run, and as a ratio. `cargo run --release -p farthing-bench --bin meter`
//!
//! Rounds of the two ways take turns, so that a noisy neighbour hits both alike; medians are shown.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use meter::{Dialect, End, Head, Meter};

const ROUNDS: usize = 25;
const EVENTS: u32 = 500;
const REPEATS: u32 = 10;

const WORDS: [&str; 8] =
    [" the", " gateway", " answers", ",", " and", "\\n\\n", " 你好", " meters every token"];

struct Stream {
    name: &'static str,
    dialect: Dialect,
    event: fn(u32, &str) -> String,
}

const STREAMS: [Stream; 5] = [
    Stream { name: "chat", dialect: Dialect::OpenAiChat, event: chat },
    Stream { name: "chat with padding", dialect: Dialect::OpenAiChat, event: padded },
    Stream { name: "responses", dialect: Dialect::OpenAiResponses, event: response },
    Stream { name: "messages", dialect: Dialect::AnthropicMessages, event: message },
    Stream { name: "gemini (totals on every event)", dialect: Dialect::GeminiGenerate, event: gemini },
];

fn chat(_: u32, word: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-B9Mabc\",\"object\":\"chat.completion.chunk\",\"created\":1795000000,\"model\":\"gpt-6-luna\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
}

fn padded(at: u32, word: &str) -> String {
    let padding = "x".repeat(at as usize % 12);
    format!(
        "data: {{\"id\":\"chatcmpl-B9Mabc\",\"object\":\"chat.completion.chunk\",\"created\":1795000000,\"model\":\"gpt-6-luna\",\"service_tier\":\"default\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null,\"obfuscation\":\"{padding}\"}}\n\n"
    )
}

fn response(at: u32, word: &str) -> String {
    let padding = "x".repeat(at as usize % 12);
    format!(
        "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{at},\"item_id\":\"msg_67ccd\",\"output_index\":0,\"content_index\":0,\"delta\":\"{word}\",\"logprobs\":[],\"obfuscation\":\"{padding}\"}}\n\n"
    )
}

fn message(_: u32, word: &str) -> String {
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}}}\n\n"
    )
}

fn gemini(at: u32, word: &str) -> String {
    format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{word}\"}}],\"role\":\"model\"}},\"index\":0}}],\"usageMetadata\":{{\"promptTokenCount\":8,\"candidatesTokenCount\":{at},\"totalTokenCount\":{}}},\"modelVersion\":\"gemini-3.7-flash\"}}\r\n\r\n",
        at + 8
    )
}

/// Nanoseconds per event, and how many events took the short cut.
fn run(dialect: Dialect, events: &[Bytes], in_full: bool) -> (u128, u64) {
    let head = Head {
        status: 200,
        content_type: Some("text/event-stream"),
        content_encoding: None,
        hide_usage_chunk: false,
    };
    let mut out = Vec::with_capacity(events.len());
    let mut short_cuts = 0;
    let start = Instant::now();
    for _ in 0..REPEATS {
        out.clear();
        let mut meter = Meter::new(dialect, head);
        if in_full {
            meter = meter.reading_in_full();
        }
        for event in events {
            meter.feed(event.clone(), &mut out);
        }
        short_cuts = meter.short_cuts();
        black_box(meter.end(End::Eof, &mut out));
    }
    (start.elapsed().as_nanos() / u128::from(REPEATS * EVENTS), short_cuts)
}

fn median(mut nanos: Vec<u128>) -> u128 {
    nanos.sort_unstable();
    nanos.get(nanos.len() / 2).copied().unwrap_or_default()
}

fn main() {
    println!(
        "| stream | bytes per event | in full, ns | short cut, ns | ratio | short cuts of {EVENTS} |\n|---|---|---|---|---|---|"
    );
    for Stream { name, dialect, event } in STREAMS {
        let words = WORDS.iter().cycle();
        let events: Vec<Bytes> = (0..EVENTS).zip(words).map(|(at, word)| event(at, word).into()).collect();
        let bytes = events.iter().map(Bytes::len).sum::<usize>() / events.len();
        let (mut full, mut short, mut taken) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            full.push(run(dialect, &events, true).0);
            let (nanos, short_cuts) = run(dialect, &events, false);
            short.push(nanos);
            taken = short_cuts;
        }
        let (full, short) = (median(full), median(short).max(1));
        println!(
            "| {name} | {bytes} | {full} | {short} | {}.{:02} | {taken} |",
            full / short,
            full % short * 100 / short
        );
    }
}
