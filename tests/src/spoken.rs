//! An answer of each kind in the pieces it comes in, and what it costs to have heard so many of them: worked
//! out here from the rules of `specs/metering.md`, without the meter.

use serde_json::{Value, json};

use crate::upstream::FRIENDLY_COST;

/// Nano units for a token at the usual prices.
const INPUT: i64 = 1000;
const OUTPUT: i64 = 4000;
/// Tokens of a message's framing in an estimate.
const TOKENS_PER_MESSAGE: usize = 3;
/// What every request here says.
const ASKED: &str = "say a few words";

/// One piece of an answer.
#[derive(Clone, Debug)]
pub struct Piece {
    /// As it is sent, one chunk.
    pub text: String,
    /// Stands in this piece and in no other.
    pub mark: String,
    /// The output in it.
    pub said: String,
    /// What it reports.
    pub report: Option<Report>,
    /// Whether the answer is over, whatever the connection does.
    pub last: bool,
}

/// Tokens reported so far.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Input tokens.
    pub input: i64,
    /// Output tokens.
    pub output: i64,
    /// Whether it covers the whole answer.
    pub whole: bool,
}

/// A call and its answer.
#[derive(Clone, Debug)]
pub struct Talk {
    /// Where it is asked for.
    pub path: &'static str,
    /// The request.
    pub body: Value,
    /// `content-type` of the answer.
    pub content_type: &'static str,
    /// The answer.
    pub pieces: Vec<Piece>,
    messages: usize,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The upstream's body came to its end.
    Ended,
    /// The upstream broke off, or fell silent.
    Broken,
    /// The client left, and what came after was not waited for.
    Left,
}

/// A charge, and whether it rests on an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Nano units.
    pub nano: i64,
    /// As the journal marks it.
    pub estimated: bool,
}

impl Owed {
    /// What the provider's own report comes to, for every talk here.
    pub const REPORTED: Self = Self { nano: FRIENDLY_COST, estimated: false };
    /// Nothing.
    pub const NOTHING: Self = Self { nano: 0, estimated: false };
}

impl Talk {
    /// Each kind of answer that is metered.
    pub fn all() -> Vec<Self> {
        vec![Self::chat(), Self::completions(), Self::responses(), Self::messages(), Self::document()]
    }

    /// OpenAI chat, streamed, the client asks for the usage itself.
    pub fn chat() -> Self {
        let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
        let mut events = vec![delta(json!({"role": "assistant", "content": ""}))];
        events.extend(words().map(|word| delta(json!({"content": word}))));
        events.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
        events.push(json!({"choices": [], "usage": usage("prompt", "completion")}));
        let mut pieces =
            Self::events("", &events, |event| json_report(&event["usage"], "prompt", "completion"));
        pieces.push(done());
        let options = json!({"include_usage": true});
        let body = json!({"model": "m", "max_tokens": 1000, "stream": true, "stream_options": options,
                          "messages": [{"role": "user", "content": ASKED}]});
        Self { path: "/v1/chat/completions", body, content_type: "text/event-stream", pieces, messages: 1 }
    }

    /// OpenAI completions, streamed.
    pub fn completions() -> Self {
        let mut events: Vec<Value> =
            words().map(|word| json!({"choices": [{"index": 0, "text": word}]})).collect();
        events.push(json!({"choices": [], "usage": usage("prompt", "completion")}));
        let mut pieces =
            Self::events("", &events, |event| json_report(&event["usage"], "prompt", "completion"));
        pieces.push(done());
        let options = json!({"include_usage": true});
        let body = json!({"model": "m", "max_tokens": 1000, "stream": true, "stream_options": options,
                          "prompt": ASKED});
        Self { path: "/v1/completions", body, content_type: "text/event-stream", pieces, messages: 0 }
    }

    /// OpenAI responses, streamed. The report and the end are one event.
    pub fn responses() -> Self {
        let mut events = vec![json!({"type": "response.created", "response": {"usage": null}})];
        events.extend(words().map(|word| json!({"type": "response.output_text.delta", "delta": word})));
        events.push(json!({"type": "response.completed", "response": {"usage": usage("input", "output")}}));
        let pieces = Self::events("type", &events, |event| {
            json_report(&event["response"]["usage"], "input", "output")
        });
        let body = json!({"model": "m", "max_output_tokens": 1000, "stream": true, "input": ASKED});
        Self { path: "/v1/responses", body, content_type: "text/event-stream", pieces, messages: 1 }
    }

    /// Anthropic messages, streamed. Its first event reports the input, and one token of output.
    pub fn messages() -> Self {
        let start = json!({"usage": {"input_tokens": 10, "output_tokens": 1}});
        let mut events = vec![
            json!({"type": "message_start", "message": start}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ];
        events.extend(words().map(|word| {
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
        }));
        events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}));
        events.push(json!({"type": "message_stop"}));
        let pieces = Self::events("type", &events, |event| match event["type"].as_str() {
            Some("message_start") => Some(Report { input: 10, output: 1, whole: false }),
            Some("message_delta") => Some(Report { input: 10, output: 5, whole: true }),
            _ => None,
        });
        let body = json!({"model": "m", "max_tokens": 1000, "stream": true,
                          "messages": [{"role": "user", "content": ASKED}]});
        Self { path: "/v1/messages", body, content_type: "text/event-stream", pieces, messages: 1 }
    }

    /// OpenAI chat in one document, which comes in several pieces all the same.
    pub fn document() -> Self {
        let mut pieces = vec![piece(
            r#"{"id":"the-start","choices":[{"index":0,"message":{"content":""#.into(),
            "the-start",
            "",
        )];
        pieces.extend(words().map(|word| piece(word.clone(), &word, &word)));
        let end = format!(r#""}}}}],"usage":{},"model":"the-end"}}"#, usage("prompt", "completion"));
        let mut end = piece(end, "the-end", "");
        end.report = Some(Report { input: 10, output: 5, whole: true });
        end.last = true;
        pieces.push(end);
        let body = json!({"model": "m", "max_tokens": 1000,
                          "messages": [{"role": "user", "content": ASKED}]});
        Self { path: "/v1/chat/completions", body, content_type: "application/json", pieces, messages: 1 }
    }

    /// Whether the answer comes as events.
    pub fn is_streamed(&self) -> bool {
        self.content_type == "text/event-stream"
    }

    /// Whether the end mark is among the first so many pieces. A document ends with its body.
    pub fn is_over(&self, pieces: usize) -> bool {
        self.is_streamed() && self.pieces[..pieces].last().is_some_and(|piece| piece.last)
    }

    /// Head of the answer, which comes in chunks on a connection for it alone.
    pub fn head(&self) -> String {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            self.content_type
        )
    }

    /// What is owed after so many pieces: what was reported, else an estimate of what was delivered, and
    /// nothing for a failure before the first output.
    pub fn owed(&self, pieces: usize, ending: Ending) -> Owed {
        let heard = &self.pieces[..pieces];
        if heard.last().is_some_and(|piece| piece.last) {
            return Owed::REPORTED;
        }
        let (mut said, mut before, mut report) = (String::new(), 0, None);
        for piece in heard {
            said.push_str(&piece.said);
            if piece.report.is_some() {
                (report, before) = (piece.report, said.len());
            }
        }
        let whole = report.is_some_and(|report| report.whole);
        let failed = match ending {
            Ending::Broken => true,
            Ending::Ended => !whole,
            Ending::Left => false,
        };
        if failed && said.is_empty() {
            return Owed::NOTHING;
        }
        let all = tokens(&said);
        match report {
            Some(Report { input, output, whole }) => {
                // What came after the report is estimated in the ratio of all that was said.
                let since = if whole { 0 } else { said.len() - before };
                let more = (since * all).div_ceil(said.len().max(1));
                let nano = input * INPUT + (output + units(more)) * OUTPUT;
                Owed { nano, estimated: since > 0 }
            }
            None => {
                let input = tokens(ASKED) + TOKENS_PER_MESSAGE * self.messages;
                Owed { nano: units(input) * INPUT + units(all) * OUTPUT, estimated: true }
            }
        }
    }

    fn events(named: &str, events: &[Value], report: impl Fn(&Value) -> Option<Report>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let (mut event, mark) = (event.clone(), format!("mark-{at}-"));
            let name = event[named].as_str().map(|name| format!("event: {name}\n")).unwrap_or_default();
            let said = words().find(|word| event.to_string().contains(word.as_str())).unwrap_or_default();
            event["id"] = json!(mark);
            let mut piece = piece(format!("{name}data: {event}\n\n"), &mark, &said);
            piece.report = report(&event);
            piece.last = matches!(event["type"].as_str(), Some("response.completed" | "message_stop"));
            pieces.push(piece);
        }
        pieces
    }
}

/// Tokens as the gateway's tokenizer counts them.
pub fn tokens(text: &str) -> usize {
    tiktoken_rs::o200k_base_singleton().count_ordinary(text)
}

/// What an estimate comes to at the usual prices, for one message.
pub fn estimate(input: &str, output: &str) -> i64 {
    (units(tokens(input)) + units(TOKENS_PER_MESSAGE)) * INPUT + units(tokens(output)) * OUTPUT
}

/// A number of tokens, to reckon with.
pub fn units(tokens: usize) -> i64 {
    i64::try_from(tokens).unwrap()
}

fn piece(text: String, mark: &str, said: &str) -> Piece {
    Piece { text, mark: mark.to_owned(), said: said.to_owned(), report: None, last: false }
}

fn done() -> Piece {
    Piece { last: true, ..piece("data: [DONE]\n\n".to_owned(), "[DONE]", "") }
}

/// Words of different lengths, so that no two estimates are the same.
fn words() -> impl Iterator<Item = String> {
    [7usize, 18, 30].into_iter().map(|length| format!("w{length}{}", "-".repeat(length)))
}

fn usage(input: &str, output: &str) -> Value {
    json!({format!("{input}_tokens"): 10, format!("{output}_tokens"): 5, "total_tokens": 15})
}

fn json_report(usage: &Value, input: &str, output: &str) -> Option<Report> {
    let count = |name: &str| usage[format!("{name}_tokens")].as_i64();
    Some(Report { input: count(input)?, output: count(output)?, whole: true })
}
