//! A pretend AI API for the demo and for trying things out: it speaks OpenAI, Anthropic, Gemini and Ollama, streams
//! word by word, and reports its usage. What it says is always the same.

mod gemini;
mod ollama;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Time between two words of a streamed answer.
const WORD_PAUSE: Duration = Duration::from_millis(8);
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const WORDS: [&str; 24] = [
    "A ",
    "farthing ",
    "was ",
    "the ",
    "smallest ",
    "English ",
    "coin: ",
    "a ",
    "quarter ",
    "of ",
    "a ",
    "penny. ",
    "Here ",
    "the ",
    "smallest ",
    "unit ",
    "is ",
    "a ",
    "billionth ",
    "of ",
    "a ",
    "dollar, ",
    "counted ",
    "exactly.",
];

/// `farthing upstream`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:4403")]
    listen: SocketAddr,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    crate::block_on(async {
        let listener = match TcpListener::bind(args.listen).await {
            Ok(listener) => listener,
            Err(error) => return crate::complain(&format!("listen on {}: {error}", args.listen)),
        };
        println!("{}", json!({"listening": listener.local_addr().ok().map(|a| a.to_string())}));
        serve(listener).await;
        ExitCode::SUCCESS
    })
}

/// Answers on `listener` for ever.
pub(crate) async fn serve(listener: TcpListener) {
    let hits = Arc::new(AtomicU64::new(0));
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        // One word a packet: without this the kernel would gather them.
        let _ = tcp.set_nodelay(true);
        let hits = Arc::clone(&hits);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let hits = Arc::clone(&hits);
                async move { Ok::<_, Infallible>(answer(request, &hits).await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, hits: &AtomicU64) -> Answer {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if parts.method == Method::GET && path == "/__hits" {
        return document(StatusCode::OK, &json!({"requests": hits.load(Ordering::Relaxed)}));
    }
    let whole = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let asked: Option<Value> = whole.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
    let Some(asked) = asked.filter(|_| parts.method == Method::POST) else {
        return document(
            StatusCode::BAD_REQUEST,
            &json!({"error": {"message": "no JSON", "type": "invalid_request_error"}}),
        );
    };
    hits.fetch_add(1, Ordering::Relaxed);
    let mut said = Said::to(&asked);
    if let Some((model, streams)) = gemini::asked(&path) {
        model.clone_into(&mut said.model);
        let as_events = parts.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        return match (streams, as_events) {
            (false, _) => document(StatusCode::OK, &gemini::document(&said)),
            (true, true) => stream(gemini::stream(&said, true)),
            (true, false) => pieces("application/json", gemini::stream(&said, false)),
        };
    }
    if matches!(path.as_str(), "/api/chat" | "/api/generate") {
        // Streamed unless the client says otherwise.
        return match asked["stream"] == false {
            true => document(StatusCode::OK, &ollama::document(&said, &path)),
            false => pieces("application/x-ndjson", ollama::lines(&said, &path)),
        };
    }
    match (path.as_str(), asked["stream"] == true) {
        ("/v1/chat/completions", false) => document(StatusCode::OK, &said.chat()),
        ("/v1/chat/completions", true) => stream(said.chat_events(&asked)),
        ("/v1/responses", false) => document(StatusCode::OK, &said.response("completed")),
        ("/v1/responses", true) => stream(said.response_events()),
        ("/v1/messages", false) => document(StatusCode::OK, &said.message()),
        ("/v1/messages", true) => stream(said.message_events()),
        _ => document(
            StatusCode::NOT_FOUND,
            &json!({"error": {"message": "no such path", "type": "not_found_error"}}),
        ),
    }
}

fn document(status: StatusCode, value: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed());
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

fn stream(events: Vec<String>) -> Answer {
    pieces("text/event-stream", events)
}

/// Sends one piece after the other, with a pause between words.
fn pieces(content_type: &'static str, events: Vec<String>) -> Answer {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        for event in events {
            if sender.send(Bytes::from(event)).await.is_err() {
                return;
            }
            tokio::time::sleep(WORD_PAUSE).await;
        }
    });
    let mut response = Response::new(BodyExt::boxed(Received(receiver)));
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, content_type);
    response
}

struct Received(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// An answer before it takes a provider's shape.
struct Said {
    model: String,
    words: &'static [&'static str],
    cut: bool,
    input: usize,
}

impl Said {
    fn to(asked: &Value) -> Self {
        let limit = ["max_tokens", "max_completion_tokens", "max_output_tokens"]
            .iter()
            .find_map(|name| asked[*name].as_u64())
            .or_else(|| asked["generationConfig"]["maxOutputTokens"].as_u64())
            .or_else(|| asked["options"]["num_predict"].as_u64())
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX);
        let count = WORDS.len().min(limit.max(1));
        let words = |part: &Value| part.to_string().split_whitespace().count();
        let prompt = [&asked["messages"], &asked["input"], &asked["system"]];
        let native = [&asked["contents"], &asked["prompt"]];
        let native = native.into_iter().filter(|part| !part.is_null());
        let input = prompt.into_iter().chain(native).map(words).sum::<usize>();
        Self {
            model: asked["model"].as_str().unwrap_or("play").to_owned(),
            words: WORDS.get(..count).unwrap_or(&WORDS),
            cut: count < WORDS.len(),
            input: input.max(1) + 7,
        }
    }

    fn text(&self) -> String {
        self.words.concat()
    }

    fn chat_usage(&self) -> Value {
        let (input, output) = (self.input, self.words.len());
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
               "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}})
    }

    const fn finish(&self) -> &'static str {
        if self.cut { "length" } else { "stop" }
    }

    fn chat(&self) -> Value {
        json!({"id": "chatcmpl-play", "object": "chat.completion", "created": 1_795_000_000, "model": self.model,
               "choices": [{"index": 0, "message": {"role": "assistant", "content": self.text(), "refusal": null},
                            "logprobs": null, "finish_reason": self.finish()}],
               "usage": self.chat_usage()})
    }

    fn chat_events(&self, asked: &Value) -> Vec<String> {
        let chunk = |choices: Value, usage: Option<Value>| {
            let mut chunk = json!({"id": "chatcmpl-play", "object": "chat.completion.chunk",
                                   "created": 1_795_000_000, "model": self.model, "choices": choices});
            if let Some(usage) = usage {
                chunk["usage"] = usage;
            }
            format!("data: {chunk}\n\n")
        };
        let delta = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        let mut events = vec![chunk(delta(json!({"role": "assistant", "content": ""}), Value::Null), None)];
        events
            .extend(self.words.iter().map(|word| chunk(delta(json!({"content": word}), Value::Null), None)));
        events.push(chunk(delta(json!({}), self.finish().into()), None));
        if asked["stream_options"]["include_usage"] == true {
            events.push(chunk(json!([]), Some(self.chat_usage())));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    fn response(&self, status: &str) -> Value {
        let (input, output) = (self.input, self.words.len());
        let done = status == "completed";
        let content = json!([{"type": "output_text", "text": self.text(), "annotations": []}]);
        let item = json!({"type": "message", "id": "msg_play", "status": "completed", "role": "assistant", "content": content});
        json!({"id": "resp_play", "object": "response", "created_at": 1_795_000_000, "status": status, "error": null,
               "incomplete_details": null, "instructions": null, "max_output_tokens": null, "model": self.model,
               "output": if done { json!([item]) } else { json!([]) }, "parallel_tool_calls": true,
               "previous_response_id": null, "reasoning": {"effort": null, "summary": null}, "store": false,
               "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
               "truncation": "disabled", "user": null, "metadata": {},
               "usage": if done { json!({"input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
                   "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
                   "total_tokens": input + output}) } else { Value::Null }})
    }

    fn response_events(&self) -> Vec<String> {
        let mut sequence = 0;
        let mut event = |kind: &str, mut data: Value| {
            data["type"] = kind.into();
            data["sequence_number"] = sequence.into();
            sequence += 1;
            format!("event: {kind}\ndata: {data}\n\n")
        };
        let item = json!({"type": "message", "id": "msg_play", "status": "in_progress", "role": "assistant", "content": []});
        let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
        let mut events = vec![
            event("response.created", json!({"response": self.response("in_progress")})),
            event("response.output_item.added", json!({"output_index": 0, "item": item})),
            event(
                "response.content_part.added",
                json!({"item_id": "msg_play", "output_index": 0, "content_index": 0, "part": part("")}),
            ),
        ];
        for word in self.words {
            events.push(event("response.output_text.delta",
                json!({"item_id": "msg_play", "output_index": 0, "content_index": 0, "delta": word, "logprobs": []})));
        }
        let text = self.text();
        events.push(event("response.output_text.done",
            json!({"item_id": "msg_play", "output_index": 0, "content_index": 0, "text": text, "logprobs": []})));
        events.push(event(
            "response.content_part.done",
            json!({"item_id": "msg_play", "output_index": 0, "content_index": 0, "part": part(&text)}),
        ));
        let whole = self.response("completed");
        let item = whole["output"][0].clone();
        events.push(event("response.output_item.done", json!({"output_index": 0, "item": item})));
        events.push(event("response.completed", json!({"response": whole})));
        events
    }

    const fn stop_reason(&self) -> &'static str {
        if self.cut { "max_tokens" } else { "end_turn" }
    }

    fn message(&self) -> Value {
        json!({"id": "msg_play", "type": "message", "role": "assistant", "model": self.model,
               "content": [{"type": "text", "text": self.text()}], "stop_reason": self.stop_reason(),
               "stop_sequence": null,
               "usage": {"input_tokens": self.input, "cache_creation_input_tokens": 0,
                         "cache_read_input_tokens": 0, "output_tokens": self.words.len()}})
    }

    fn message_events(&self) -> Vec<String> {
        let event = |kind: &str, mut data: Value| {
            data["type"] = kind.into();
            format!("event: {kind}\ndata: {data}\n\n")
        };
        let mut begun = self.message();
        begun["content"] = json!([]);
        begun["stop_reason"] = Value::Null;
        begun["usage"]["output_tokens"] = 1.into();
        let mut events = vec![
            event("message_start", json!({"message": begun})),
            event("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}})),
        ];
        for word in self.words {
            events.push(event(
                "content_block_delta",
                json!({"index": 0, "delta": {"type": "text_delta", "text": word}}),
            ));
        }
        events.push(event("content_block_stop", json!({"index": 0})));
        events.push(event(
            "message_delta",
            json!({"delta": {"stop_reason": self.stop_reason(), "stop_sequence": null},
                   "usage": {"output_tokens": self.words.len()}}),
        ));
        events.push(event("message_stop", json!({})));
        events
    }
}
