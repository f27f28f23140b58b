//! The last events of a stream that we stop ourselves, in its dialect's words: the answer ends as one that
//! reached its output limit (MTR-35).
//!
//! Our reason stands in a member named `farthing`, never `error`: an SDK raises on any event with an `error`
//! member, and its caller would lose the text that was paid for.

use bytes::Bytes;

use crate::seen::Seen;
use crate::stream::{Element, Stream};

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

/// Writes the last events of a dialect.
pub(crate) type Write = fn(&Stream, &Ending<'_>) -> String;

/// The events, or nothing for a stream that cannot be ended.
pub(crate) fn write(stream: &Stream, ending: &Ending<'_>) -> Option<Bytes> {
    let text = stream.write_ending()?(stream, ending);
    // What the client has may end with half a CR LF.
    Some(if stream.owes_line_feed() { format!("\n{text}").into() } else { text.into() })
}

pub(crate) fn chat(stream: &Stream, ending: &Ending<'_>) -> String {
    openai(&stream.seen, ending, "chat.completion.chunk", r#""delta":{}"#)
}

pub(crate) fn completion(stream: &Stream, ending: &Ending<'_>) -> String {
    openai(&stream.seen, ending, "text_completion", r#""text":"""#)
}

pub(crate) fn ollama_chat(stream: &Stream, ending: &Ending<'_>) -> String {
    ollama(&stream.seen, ending, r#""message":{"role":"assistant","content":""}"#)
}

pub(crate) fn ollama_generate(stream: &Stream, ending: &Ending<'_>) -> String {
    ollama(&stream.seen, ending, r#""response":"""#)
}

pub(crate) fn gemini(stream: &Stream, ending: &Ending<'_>) -> String {
    let seen = &stream.seen;
    let (id, model) = (quoted(&seen.id), quoted(&seen.model));
    let candidates: Vec<String> = (0..ending.choices)
        .map(|index| {
            format!(
                r#"{{"content":{{"parts":[{{"text":""}}],"role":"model"}},"finishReason":"MAX_TOKENS","index":{index}}}"#
            )
        })
        .collect();
    let usage = ending.usage.map_or_else(String::new, |(input, output)| {
        let total = input.saturating_add(output);
        format!(
            r#""usageMetadata":{{"promptTokenCount":{input},"candidatesTokenCount":{output},"totalTokenCount":{total}}},"#
        )
    });
    let event = format!(
        r#"{{"candidates":[{}],{usage}"modelVersion":{model},"responseId":{id},"farthing":{}}}"#,
        candidates.join(","),
        ending.note
    );
    match stream.element() {
        None => format!("data: {event}\r\n\r\n"),
        Some(Element::First | Element::Open) => format!("{event}\n]"),
        Some(Element::Whole) => format!(",\n{event}\n]"),
        Some(Element::End) => String::new(),
    }
}

fn ollama(seen: &Seen, ending: &Ending<'_>, empty: &str) -> String {
    let usage = ending.usage.map_or_else(String::new, |(input, output)| {
        format!(r#""prompt_eval_count":{input},"eval_count":{output},"#)
    });
    format!(
        "{{\"model\":{},\"created_at\":\"{}\",{empty},\"done\":true,\"done_reason\":\"length\",\
         \"total_duration\":0,\"load_duration\":0,{usage}\"farthing\":{}}}\n",
        quoted(&seen.model),
        rfc3339(ending.created_s),
        ending.note
    )
}

pub(crate) fn llamacpp(stream: &Stream, ending: &Ending<'_>) -> String {
    let seen = &stream.seen;
    let usage = ending.usage.map_or_else(String::new, |(input, output)| {
        format!(r#""tokens_evaluated":{input},"tokens_predicted":{output},"#)
    });
    format!(
        "data: {{\"index\":0,\"content\":\"\",\"tokens\":[],\"stop\":true,\"stop_type\":\"limit\",\
         \"model\":{},\"truncated\":false,{usage}\"farthing\":{}}}\n\n",
        quoted(&seen.model),
        ending.note
    )
}

pub(crate) fn dashscope(stream: &Stream, ending: &Ending<'_>) -> String {
    let seen = &stream.seen;
    let usage = ending.usage.map_or_else(String::new, |(input, output)| {
        let total = input.saturating_add(output);
        format!(r#""usage":{{"input_tokens":{input},"output_tokens":{output},"total_tokens":{total}}},"#)
    });
    format!(
        "event:result\n:HTTP_STATUS/200\ndata:{{\"output\":{{\"choices\":[{{\"message\":{{\"content\":\"\",\
         \"role\":\"assistant\"}},\"finish_reason\":\"length\"}}]}},{usage}\"request_id\":{},\"farthing\":{}}}\n\n",
        quoted(&seen.id),
        ending.note
    )
}

/// A time of the Unix era as `2026-11-20T10:00:00Z`.
fn rfc3339(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days since 1 March of year 0, so that a leap day is a year's last.
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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

pub(crate) fn responses(stream: &Stream, ending: &Ending<'_>) -> String {
    let seen = &stream.seen;
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

pub(crate) fn messages(stream: &Stream, ending: &Ending<'_>) -> String {
    let seen = &stream.seen;
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

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_table() {
        for (unix_s, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_000_000, "2026-11-18T11:06:40Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(unix_s), expected);
        }
    }
}
