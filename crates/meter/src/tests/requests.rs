//! What is read from requests, and what is spliced into them.

use std::borrow::Cow;

use crate::RequestError as E;
use crate::{Dialect, scan_request};

const CHAT: Dialect = Dialect::OpenAiChat;

fn rewrite(dialect: Dialect, body: &str, clamp: Option<u64>) -> String {
    let facts = scan_request(dialect, body.as_bytes()).unwrap();
    String::from_utf8(facts.rewrite(body.as_bytes(), clamp, true).into_owned()).unwrap()
}

/// MTR-20: the member goes in, everything else stays byte for byte.
#[test]
fn usage_is_asked_for_by_splicing() {
    for (case, body, expected) in [
        (
            "no options",
            r#"{"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            "white space and number text stay",
            "\n{ \"model\" : \"m\" ,\r\n\t\"temperature\": 1.0e0, \"stream\":true } ",
            "\n{\"stream_options\":{\"include_usage\":true}, \"model\" : \"m\" ,\r\n\t\"temperature\": 1.0e0, \"stream\":true } ",
        ),
        (
            "options without it",
            r#"{"model":"m","stream":true,"stream_options":{ "include_obfuscation":false}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true, "include_obfuscation":false}}"#,
        ),
        (
            "empty options",
            r#"{"stream_options":{ },"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true },"model":"m","stream":true}"#,
        ),
        (
            "options null",
            r#"{"stream_options": null ,"model":"m","stream":true}"#,
            r#"{"stream_options": {"include_usage":true} ,"model":"m","stream":true}"#,
        ),
        (
            "said false",
            r#"{"model":"m","stream_options":{"a":[1],"include_usage": false ,"b":{}},"stream":true}"#,
            r#"{"model":"m","stream_options":{"a":[1],"include_usage": true ,"b":{}},"stream":true}"#,
        ),
        (
            "said null, key escaped",
            r#"{"model":"m","stream_options":{"\u0069nclude_usage":null},"stream":true}"#,
            r#"{"model":"m","stream_options":{"\u0069nclude_usage":true},"stream":true}"#,
        ),
        (
            "decoys deeper down",
            r#"{"messages":[{"stream_options":{"include_usage":true},"stream":false}],"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"messages":[{"stream_options":{"include_usage":true},"stream":false}],"model":"m","stream":true}"#,
        ),
        (
            "decoy in a text",
            r#"{"model":"m","user":"\"stream_options\":{\"include_usage\":true}","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","user":"\"stream_options\":{\"include_usage\":true}","stream":true}"#,
        ),
    ] {
        let facts = scan_request(CHAT, body.as_bytes()).unwrap();
        assert!(facts.will_inject(true) && !facts.will_inject(false), "{case}");
        assert_eq!(rewrite(CHAT, body, None), expected, "{case}");
    }
}

/// MTR-22, MTR-23: where it was asked for, or reported anyway, the body stays as it is.
#[test]
fn usage_is_not_asked_for_where_it_comes_anyway() {
    for (case, dialect, body) in [
        ("asked", CHAT, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#),
        ("not a stream", CHAT, r#"{"model":"m"}"#),
        ("stream false", CHAT, r#"{"model":"m","stream":false}"#),
        ("responses", Dialect::OpenAiResponses, r#"{"model":"m","stream":true}"#),
        ("messages", Dialect::AnthropicMessages, r#"{"model":"m","stream":true}"#),
        ("raw", Dialect::Raw, "not even JSON"),
    ] {
        let facts = scan_request(dialect, body.as_bytes()).unwrap();
        assert!(!facts.will_inject(true), "{case}");
        assert!(matches!(facts.rewrite(body.as_bytes(), None, true), Cow::Borrowed(_)), "{case}");
    }
    let body = r#"{"model":"m","stream":true}"#;
    let facts = scan_request(CHAT, body.as_bytes()).unwrap();
    assert_eq!(facts.rewrite(body.as_bytes(), None, false), body.as_bytes(), "the operator said no");
}

/// MTR-34: lowered or inserted, never raised.
#[test]
fn output_is_limited_by_splicing() {
    let (responses, messages) = (Dialect::OpenAiResponses, Dialect::AnthropicMessages);
    for (case, dialect, body, expected) in [
        ("lowered", CHAT, r#"{"model":"m","max_tokens": 9000 }"#, r#"{"model":"m","max_tokens": 300 }"#),
        ("never raised", CHAT, r#"{"model":"m","max_tokens":10}"#, r#"{"model":"m","max_tokens":10}"#),
        ("equal", CHAT, r#"{"model":"m","max_tokens":3e2}"#, r#"{"model":"m","max_tokens":3e2}"#),
        ("inserted", CHAT, r#"{ "model":"m"}"#, r#"{"max_tokens":300, "model":"m"}"#),
        ("null", CHAT, r#"{"model":"m","max_tokens":null}"#, r#"{"model":"m","max_tokens":300}"#),
        (
            "newer name",
            CHAT,
            r#"{"max_completion_tokens":301,"model":"m"}"#,
            r#"{"max_completion_tokens":300,"model":"m"}"#,
        ),
        (
            "two names",
            CHAT,
            r#"{"max_completion_tokens":301,"model":"m","max_tokens":7}"#,
            r#"{"max_completion_tokens":300,"model":"m","max_tokens":7}"#,
        ),
        (
            "null beside a limit",
            CHAT,
            r#"{"max_completion_tokens":null,"model":"m","max_tokens":700}"#,
            r#"{"max_completion_tokens":null,"model":"m","max_tokens":300}"#,
        ),
        (
            "decoy deeper down",
            CHAT,
            r#"{"metadata":{"max_tokens":1},"model":"m"}"#,
            r#"{"max_tokens":300,"metadata":{"max_tokens":1},"model":"m"}"#,
        ),
        (
            "both splices at one place",
            CHAT,
            r#"{"model":"m","stream":true}"#,
            r#"{"max_tokens":300,"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        ("responses", responses, r#"{"model":"m"}"#, r#"{"max_output_tokens":300,"model":"m"}"#),
        (
            "responses, other names are not its own",
            responses,
            r#"{"model":"m","max_tokens":1}"#,
            r#"{"max_output_tokens":300,"model":"m","max_tokens":1}"#,
        ),
        ("messages", messages, r#"{"model":"m","max_tokens":4096}"#, r#"{"model":"m","max_tokens":300}"#),
        ("embeddings", Dialect::OpenAiEmbeddings, r#"{"model":"m"}"#, r#"{"model":"m"}"#),
        ("counting", Dialect::AnthropicCountTokens, r#"{"model":"m"}"#, r#"{"model":"m"}"#),
    ] {
        assert_eq!(rewrite(dialect, body, Some(300)), expected, "{case}");
    }
}

/// What the body does not bound, and what costs more than tokens, is told.
#[test]
fn documents_to_fetch_and_tools_of_the_provider_are_told() {
    let facts = |dialect, body: &str| scan_request(dialect, body.as_bytes()).unwrap();
    let messages = Dialect::AnthropicMessages;
    let responses = Dialect::OpenAiResponses;
    let part = |part: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}"#);
    let pdf = r#"{"type":"document","source":{"type":"url","url":"https://a/b.pdf"}}"#;
    let image = r#"{"type":"image","source":{"type":"url","url":"https://a/b.png"}}"#;
    let inline = r#"{"type":"document","source":{"type":"base64","data":"AAAA"}}"#;
    for (documents, body) in [(true, part(pdf)), (false, part(image)), (false, part(inline))] {
        assert_eq!(facts(messages, &body).fetched_documents, documents, "{body}");
    }
    assert!(
        facts(messages, &part(r#"{"type":"image","source":{"type":"file","file_id":"f"}}"#)).stored_input
    );
    assert_eq!(facts(messages, &part(image)).media_parts, 1);
    assert!(facts(CHAT, &part(r#"{"type":"file","file":{"file_id":"file-1"}}"#)).stored_input);
    for member in [r#""file_url":"https://a/b.pdf""#, r#""file_id":"file-1""#] {
        let body = format!(r#"{{"model":"m","input":[{{"content":[{{"type":"input_file",{member}}}]}}]}}"#);
        assert!(facts(responses, &body).stored_input, "{member}");
    }
    for (dialect, extras, member) in [
        (CHAT, false, r#""tools":[{"type":"function","function":{"name":"f"}}]"#),
        (CHAT, true, r#""prediction":{"type":"content","content":"x"}"#),
        (CHAT, true, r#""web_search_options":{}"#),
        (CHAT, false, r#""web_search_options":null"#),
        (responses, true, r#""tools":[{"type":"function"},{"type":"web_search_preview"}]"#),
        (responses, true, r#""tools":[{"type":"image_generation"}]"#),
        (messages, false, r#""tools":[{"name":"f","input_schema":{}}]"#),
        (messages, false, r#""tools":[{"type":"custom"},{"type":"bash_20250124"},{"type":null}]"#),
        (messages, true, r#""tools":[{"type":"web_search_20250305","max_uses":5}]"#),
        (messages, true, r#""mcp_servers":[{"url":"https://a"}]"#),
        (messages, true, r#""speed":"fast""#),
    ] {
        let body = format!(r#"{{"model":"m",{member}}}"#);
        assert_eq!(facts(dialect, &body).extras, extras, "{member}");
    }
}

#[test]
fn facts_table() {
    let facts = |dialect, body: &str| scan_request(dialect, body.as_bytes()).unwrap();
    let chat = facts(
        CHAT,
        r#"{"messages":[{"content":"a"},{"content":[]}],"n":3,"model":"m\u002d1","max_tokens":5,
            "max_completion_tokens":8,"stream":true,"service_tier":"priority",
            "stream_options":{"include_usage":true}}"#,
    );
    assert_eq!((chat.model.as_str(), chat.stream, chat.asked_usage), ("m-1", true, true));
    assert_eq!((chat.max_output, chat.choices, chat.messages), (Some(8), 3, 2), "the larger limit holds");
    assert_eq!((chat.service_tier.as_deref(), chat.caching), (Some("priority"), true));

    let plain =
        facts(CHAT, r#"{"model":"m","max_tokens":null,"n":null,"stream":null,"service_tier":"auto"}"#);
    assert_eq!((plain.max_output, plain.choices, plain.stream, plain.service_tier), (None, 1, false, None));

    let responses = Dialect::OpenAiResponses;
    assert_eq!(facts(responses, r#"{"model":"m","input":"hi"}"#).messages, 1);
    assert_eq!(facts(responses, r#"{"model":"m","input":[{},{}]}"#).messages, 2);
    assert!(facts(responses, r#"{"model":"m","background":true}"#).background);
    for (stored, member) in [
        (true, r#""previous_response_id":"resp_1""#),
        (true, r#""conversation":{"id":"conv_1"}"#),
        (true, r#""prompt":{"id":"pmpt_1"}"#),
        (true, r#""input":[{"type":"message"},{"type":"item_reference","id":"msg_1"}]"#),
        (false, r#""previous_response_id":null,"input":[{"type":"message","id":"item_reference"}]"#),
    ] {
        let body = format!(r#"{{"model":"m",{member}}}"#);
        assert_eq!(facts(responses, &body).stored_input, stored, "{member}");
    }

    for (dialect, body) in [
        (CHAT, r#"{"model":"m","messages":[{"content":[{"image_url":{"url":"data:AAAA"}},{"text":"b"}]}]}"#),
        (responses, r#"{"model":"m","input":[{"content":[{"image_url":"data:AAAA","file_id":null}]}]}"#),
        (
            Dialect::AnthropicMessages,
            r#"{"model":"m","messages":[{"content":[{"source":{"data":"AAAAAAAAA"}}]}]}"#,
        ),
    ] {
        let facts = facts(dialect, body);
        assert_eq!((facts.media_parts, facts.media_bytes), (1, 11), "MTR-33 {body}");
    }

    let completions = Dialect::OpenAiCompletions;
    for (prompt, messages, choices) in
        [("\"a\"", 0, 2), ("[1,2,3]", 0, 2), ("[\"a\",\"b\"]", 2, 4), ("[[1],[2]]", 2, 4)]
    {
        let body = format!(r#"{{"model":"m","prompt":{prompt},"n":1,"best_of":2}}"#);
        let facts = facts(completions, &body);
        assert_eq!((facts.messages, facts.choices), (messages, choices), "{prompt}");
    }

    let messages = Dialect::AnthropicMessages;
    let control = r#""cache_control":{"type":"ephemeral"}"#;
    for (case, caching, body) in [
        ("no", false, r#"{"model":"m","messages":[]}"#.to_owned()),
        ("top", true, format!(r#"{{"model":"m",{control}}}"#)),
        ("system", true, format!(r#"{{"model":"m","system":[{{{control}}}]}}"#)),
        ("tools", true, format!(r#"{{"model":"m","tools":[{{}},{{{control}}}]}}"#)),
        ("block", true, format!(r#"{{"model":"m","messages":[{{"content":[{{{control}}}]}}]}}"#)),
        ("null", false, r#"{"model":"m","cache_control":null}"#.to_owned()),
        ("in a text", false, r#"{"model":"m","system":"\"cache_control\":{}"}"#.to_owned()),
    ] {
        assert_eq!(facts(messages, &body).caching, caching, "{case}");
    }
}

#[test]
fn refusals_table() {
    let deep = format!(r#"{{"model":"m","a":{}{}}}"#, "[".repeat(128), "]".repeat(128));
    for (case, body, error) in [
        ("no JSON", "hello", E::NotJson),
        ("empty", "", E::NotJson),
        ("cut", r#"{"model":"m""#, E::NotJson),
        ("more behind it", r#"{"model":"m"}{}"#, E::NotJson),
        ("brackets do not match", r#"{"model":"m","a":[1}}"#, E::NotJson),
        ("brackets do not match", r#"{"model":"m","a":{"b":1]}"#, E::NotJson),
        ("no object", r#"["model"]"#, E::NotJson),
        ("MTR-16 depth", &deep, E::TooDeep),
        ("no model", r#"{"messages":[{"model":"m"}]}"#, E::NoModel),
        ("empty model", r#"{"model":""}"#, E::NoModel),
        ("model no text", r#"{"model":["m"]}"#, E::WrongType("model")),
        ("two models", r#"{"model":"a","model":"b"}"#, E::Duplicate("model")),
        ("two models, one escaped", r#"{"model":"a","mode\u006c":"b"}"#, E::Duplicate("model")),
        ("two streams", r#"{"model":"a","stream":true,"stream":true}"#, E::Duplicate("stream")),
        (
            "two limits of one name",
            r#"{"model":"a","max_tokens":1,"max_tokens":2}"#,
            E::Duplicate("max_tokens"),
        ),
        ("two lists", r#"{"model":"a","messages":[],"messages":[]}"#, E::Duplicate("messages")),
        (
            "two wishes",
            r#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#,
            E::Duplicate("include_usage"),
        ),
        ("other case", r#"{"model":"a","Model":"b"}"#, E::Lookalike("model")),
        ("long s", "{\"model\":\"a\",\"\u{17f}tream\":true}", E::Lookalike("stream")),
        ("kelvin", "{\"model\":\"a\",\"max_to\u{212a}ens\":1}", E::Lookalike("max_tokens")),
        ("stream no flag", r#"{"model":"a","stream":"true"}"#, E::WrongType("stream")),
        ("limit a text", r#"{"model":"a","max_tokens":"9"}"#, E::WrongType("max_tokens")),
        ("limit negative", r#"{"model":"a","max_tokens":-1}"#, E::WrongType("max_tokens")),
        ("limit a fraction", r#"{"model":"a","max_tokens":1.5}"#, E::WrongType("max_tokens")),
        ("limit too large", r#"{"model":"a","max_tokens":1e99}"#, E::WrongType("max_tokens")),
        ("no answers", r#"{"model":"a","n":0}"#, E::WrongType("n")),
        ("too many answers", r#"{"model":"a","n":129}"#, E::WrongType("n")),
        ("options a list", r#"{"model":"a","stream_options":[]}"#, E::WrongType("stream_options")),
        (
            "wish a number",
            r#"{"model":"a","stream_options":{"include_usage":1}}"#,
            E::WrongType("include_usage"),
        ),
        ("tier a number", r#"{"model":"a","service_tier":1}"#, E::WrongType("service_tier")),
    ] {
        assert_eq!(scan_request(CHAT, body.as_bytes()), Err(error), "{case}");
    }
    let fits = format!(r#"{{"model":"m","a":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    assert!(scan_request(CHAT, fits.as_bytes()).is_ok(), "MTR-16 the deepest that is followed");
}

/// What is fetched has any length: a sound or a film is sold as it stands in the body, and its frames one by one.
#[test]
fn sounds_and_films_are_not_fetched() {
    for (dialect, part, fetched) in [
        (CHAT, r#"{"type":"video_url","video_url":{"url":"https://a/b.mp4"}}"#, true),
        (CHAT, r#"{"type":"video_url","video_url":{"url":"data:video/mp4;base64,AAAA"}}"#, false),
        (CHAT, r#"{"type":"audio_url","audio_url":{"url":"https://a/b.mp3"}}"#, true),
        (CHAT, r#"{"type":"audio_url","audio_url":{"url":"\u0068ttps://a/b.mp3"}}"#, true),
        (CHAT, r#"{"type":"input_audio","input_audio":{"data":"https://a/b.mp3"}}"#, true),
        (CHAT, r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"mp3"}}"#, false),
        (CHAT, r#"{"type":"image_url","image_url":{"url":"https://a/b.png"}}"#, false),
        (Dialect::VllmChat, r#"{"type":"video_url","video_url":{"url":"file:///b.mp4"}}"#, true),
        (Dialect::QwenChat, r#"{"type":"video_url","video_url":{"url":"oss://b.mp4"}}"#, true),
        (Dialect::QwenChat, r#"{"type":"video","video":["https://a/1.png","https://a/2.png"]}"#, false),
        (Dialect::DashScope, r#"{"video":"https://a/b.mp4"}"#, true),
        (Dialect::DashScope, r#"{"video":["https://a/1.png","https://a/2.png"]}"#, false),
        (Dialect::DashScope, r#"{"audio":"https://a/b.mp3"}"#, true),
    ] {
        let messages = format!(r#""messages":[{{"role":"user","content":[{part}]}}]"#);
        let members =
            if dialect == Dialect::DashScope { format!(r#""input":{{{messages}}}"#) } else { messages };
        let body = format!(r#"{{"model":"m",{members}}}"#);
        let facts = scan_request(dialect, body.as_bytes()).unwrap();
        assert_eq!(facts.fetched_documents, fetched, "{body}");
        assert!(facts.media_parts > 0, "{body}");
    }
}

/// A relay is asked at several paths: another model than the one that is priced, or a search, is an extra at each.
#[test]
fn what_a_relay_does_besides_is_an_extra() {
    use Dialect as D;
    for dialect in
        [D::OpenAiChat, D::OpenRouterChat, D::OpenAiResponses, D::OpenAiCompletions, D::AnthropicMessages]
    {
        for (member, extras) in [
            ("", false),
            (r#","plugins":[{"id":"web"}]"#, true),
            (r#","models":["dearer"]"#, true),
            (r#","preset":"p""#, true),
            (r#","fallbacks":["dearer"]"#, true),
            (r#","models":null"#, false),
        ] {
            let body = format!(r#"{{"model":"m","max_tokens":1{member}}}"#);
            assert_eq!(scan_request(dialect, body.as_bytes()).unwrap().extras, extras, "{dialect:?} {body}");
        }
        let templated = br#"{"model":"m","chat_template":"{% for i in range(99999999) %}a{% endfor %}"}"#;
        assert!(scan_request(D::VllmChat, templated).unwrap().extras);
        let body = br#"{"model":"openai/m:online"}"#;
        assert!(scan_request(dialect, body).unwrap().extras, "{dialect:?}");
    }
}
