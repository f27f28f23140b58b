//! The last events of a stream that we stop ourselves, in its dialect's words: the answer ends as one that
//! reached its output limit (MTR-35).
//!
//! Our reason stands in a member named `farthing`, never `error`: an SDK raises on any event with an `error`
//! member, and its caller would lose the text that was paid for.

use bytes::Bytes;

use crate::dialect::Dialect;
use crate::seen::Seen;

/// What the last events say.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Unix seconds.
    pub created_s: u64,
    /// How many answers the request asked for.
    pub choices: u64,
    /// Input and output tokens, where the client asked for a usage chunk.
    pub usage: Option<(u64, u64)>,
    /// Our reason: a JSON object.
    pub note: &'a str,
}

/// The events, or nothing for a dialect that does not stream. `owes_line_feed`: what the client has ends with
/// half a CR LF.
pub(crate) fn write(
    dialect: Dialect,
    seen: &Seen,
    owes_line_feed: bool,
    ending: &Ending<'_>,
) -> Option<Bytes> {
    let text = match dialect {
        Dialect::OpenAiChat => openai(seen, ending, "chat.completion.chunk", r#""delta":{}"#),
        Dialect::OpenAiCompletions => openai(seen, ending, "text_completion", r#""text":"""#),
        Dialect::OpenAiResponses => responses(seen, ending),
        Dialect::AnthropicMessages => messages(seen, ending),
        Dialect::OpenAiEmbeddings | Dialect::AnthropicCountTokens | Dialect::Raw => return None,
    };
    Some(if owes_line_feed { format!("\n{text}").into() } else { text.into() })
}

fn openai(seen: &Seen, ending: &Ending<'_>, object: &str, empty: &str) -> String {
    let (id, model) = (quoted(&seen.id), quoted(&seen.model));
    let head = format!(r#"{{"id":{id},"object":"{object}","created":{},"model":{model}"#, ending.created_s);
    let choices: Vec<String> = (0..ending.choices)
        .map(|index| format!(r#"{{"index":{index},{empty},"logprobs":null,"finish_reason":"length"}}"#))
        .collect();
    let last = format!(r#"{head},"choices":[{}],"farthing":{}}}"#, choices.join(","), ending.note);
    let usage = ending.usage.map(|(input, output)| {
        let total = input.saturating_add(output);
        let usage =
            format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total}}}"#);
        format!("data: {head},\"choices\":[],\"usage\":{usage}}}\n\n")
    });
    format!("data: {last}\n\n{}data: [DONE]\n\n", usage.unwrap_or_default())
}

fn responses(seen: &Seen, ending: &Ending<'_>) -> String {
    let (id, model) = (quoted(&seen.id), quoted(&seen.model));
    let usage = ending.usage.map_or_else(
        || "null".to_owned(),
        |(input, output)| {
            let total = input.saturating_add(output);
            format!(
                r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{total}}}"#
            )
        },
    );
    let number = seen.index.map_or(0, |last| last.saturating_add(1));
    format!(
        "event: response.incomplete\ndata: {{\"type\":\"response.incomplete\",\"sequence_number\":{number},\
         \"response\":{{\"id\":{id},\"object\":\"response\",\"created_at\":{},\"status\":\"incomplete\",\
         \"incomplete_details\":{{\"reason\":\"max_output_tokens\"}},\"error\":null,\"model\":{model},\
         \"output\":[],\"parallel_tool_calls\":true,\"tool_choice\":\"auto\",\"tools\":[],\"usage\":{usage}}},\
         \"farthing\":{}}}\n\n",
        ending.created_s, ending.note
    )
}

fn messages(seen: &Seen, ending: &Ending<'_>) -> String {
    let stop = seen.index.map(|index| {
        format!("event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n")
    });
    let output = ending.usage.map_or(0, |(_, output)| output);
    format!(
        "{}event: message_delta\ndata: {{\"type\":\"message_delta\",\
         \"delta\":{{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null}},\
         \"usage\":{{\"output_tokens\":{output}}},\"farthing\":{}}}\n\n\
         event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n",
        stop.unwrap_or_default(),
        ending.note
    )
}

/// A JSON string. What the upstream named itself may hold anything.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
