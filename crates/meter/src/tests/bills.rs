//! What calls cost: the cost vectors, and who pays for what end.

use money::{Amount, Decimal, Femto, Rate};
use serde_json::Value;

use super::{Answer, charge};
use crate::{
    Anomalies, Basis, Bucket, Charge, ChargeError, Dialect, End, EstimateBasis, HoldPolicy, InputBound,
    Metered, Terminal, Usage, affordable_output, ceiling, scan_request,
};
use tariff::Rates;

pub(super) const COST_CASES: &str = include_str!("../../../../specs/vectors/usage/cost_cases.json");

#[test]
fn cost_cases() {
    let cases: Value = serde_json::from_str(COST_CASES).unwrap();
    let mut run = 0;
    for case in cases["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let metered = Metered { usage: Some(usage_of(&case["usage"])), ..reported() };
        let bill = charge(&price_of(&case["terms"]), &metered, &request()).unwrap();
        let expected = case["expect"]["nano_usd_ceil"].as_i64().unwrap();
        assert_eq!(bill.nano, Amount::from_units(expected), "{id}");
        assert!(!bill.estimated, "{id}");
        check_sum(&bill);
        run += 1;
    }
    assert_eq!(run, 15);
}

/// MTR-51: the lines say how the amount came about.
pub(super) fn check_sum(bill: &Charge) {
    let sum = bill.lines.iter().try_fold(Femto::ZERO, |sum, line| sum.add_units(line.quantity, line.rate));
    assert_eq!(sum.unwrap(), bill.femto);
    assert_eq!(bill.femto.to_nano_up().unwrap(), bill.nano);
}

pub(super) fn usage_of(case: &Value) -> Usage {
    let count = |name: &str| case[name].as_u64();
    let (five, hour) = (count("cache_write_5m"), count("cache_write_1h"));
    Usage {
        input_uncached: count("input_uncached"),
        cache_read: count("cache_read"),
        cache_write: five.zip(hour).map(|(five, hour)| five + hour),
        cache_write_5m: five,
        cache_write_1h: hour,
        // One case leaves it out: it is what the disjoint buckets sum to.
        input_total: count("input_total").or(Some(21 + 188_086 + 500)),
        output_total: count("output_total").or(Some(0)),
        reasoning: count("reasoning"),
        seconds_milli: count("seconds_milli"),
        service_tier: case["service_tier"].as_str().map(str::to_owned),
        ..Usage::default()
    }
}

fn price_of(terms: &Value) -> Rates {
    let mut price = Rates::default();
    for term in terms.as_array().unwrap() {
        let text = term["usd_per_unit"].as_str().unwrap();
        let femto = Decimal::parse(text).unwrap().round_half_even(15).unwrap();
        let rate = Rate::from_femto(u64::try_from(femto).unwrap());
        match term["bucket"].as_str().unwrap() {
            "input" => price.input = rate,
            "cache_read" => price.cache_read = Some(rate),
            "cache_write_5m" => price.cache_write = Some(rate),
            "cache_write_1h" => price.cache_write_1h = Some(rate),
            "output" | "output_non_reasoning" => price.output = rate,
            "reasoning" => price.reasoning = Some(rate),
            "seconds" => price.second = Some(rate),
            other => panic!("bucket {other}"),
        }
    }
    price
}

/// A call that was answered and reported.
pub(super) fn reported() -> Metered {
    Metered {
        dialect: Dialect::OpenAiChat,
        basis: Basis::Reported,
        terminal: Terminal::Done,
        usage: None,
        anomalies: Anomalies::default(),
        text_bytes: 400,
        reasoning_bytes: 0,
        tool_bytes: 0,
        unreported_bytes: 0,
        body_bytes: 4000,
        opaque: false,
        service_tier: None,
        model: None,
        upstream_error: false,
        before_output: false,
    }
}

/// 1 nano-USD for a prompt token, 10 for a generated one.
fn price() -> Rates {
    Rates { input: nano(1), output: nano(10), ..Rates::default() }
}

const fn nano(nano: u64) -> Rate {
    Rate::from_femto(nano * 1_000_000)
}

/// An estimate of this prompt is 100 + 2 * 3 tokens.
pub(super) const fn request() -> EstimateBasis {
    EstimateBasis {
        body_bytes: 400,
        messages: 2,
        media_parts: 0,
        media_bytes: 0,
        max_output: None,
        choices: 1,
        counted: crate::Counted::NOTHING,
    }
}

/// Who pays for what end (reference items 27 and 47), and what is marked as estimated (MTR-28).
#[test]
fn ends_table() {
    let chat = Dialect::OpenAiChat;
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"}}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":50,\"completion_tokens\":3}}\n\n";
    let error = "data: {\"error\":{}}\n\n";
    let start = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":50,\"output_tokens\":1}}}\n\n";
    let delta = "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"12345678\"}}\n\n";
    let stop = "data: {\"type\":\"error\"}\n\n";
    let running = "data: {\"choices\":[{\"delta\":{\"content\":\"1234\"}}],\"usage\":{\"prompt_tokens\":50,\"completion_tokens\":3}}\n\n";
    let failed = "data: {\"type\":\"response.failed\",\"response\":{\"usage\":{\"input_tokens\":50,\"output_tokens\":3}}}\n\n";
    let spoken = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"12345678\"}\n\n";
    let messages = Dialect::AnthropicMessages;
    let responses = Dialect::OpenAiResponses;
    for (case, dialect, status, parts, end, nano, estimated) in [
        ("reported", chat, 200, vec![text, usage], End::Eof, 50 + 30, false),
        ("nothing reported", chat, 200, vec![text], End::Eof, 106 + 20, true),
        ("MTR-27 client gone before output", chat, 200, vec![], End::ClientGone, 106, true),
        ("MTR-25 client gone after output", chat, 200, vec![text, text], End::ClientGone, 106 + 40, true),
        ("client gone after the report", chat, 200, vec![text, usage], End::ClientGone, 50 + 30, false),
        ("item 27 refused", chat, 429, vec![text, usage], End::Eof, 0, false),
        ("item 27 error as the first event", chat, 200, vec![error], End::Eof, 0, false),
        ("item 27 error, usage beside it", chat, 200, vec![usage, error], End::Eof, 0, false),
        ("item 47 error after output", chat, 200, vec![text, error], End::Eof, 106 + 20, true),
        (
            "item 47 error after output and report",
            chat,
            200,
            vec![text, usage, error],
            End::Eof,
            50 + 30,
            false,
        ),
        ("reset before output", chat, 200, vec![], End::Reset, 0, false),
        ("reset after output", chat, 200, vec![text], End::Reset, 106 + 20, true),
        ("a stream with nothing in it", chat, 200, vec![": hi\n\n"], End::Eof, 0, false),
        ("item 27 a stream that ends where it began", messages, 200, vec![start], End::Eof, 0, false),
        ("a whole report of no output", chat, 200, vec![usage], End::Eof, 50 + 30, false),
        (
            "a running total covers what came with it",
            chat,
            200,
            vec![running],
            End::ClientGone,
            50 + 30,
            false,
        ),
        ("and not what came after it", chat, 200, vec![running, text], End::ClientGone, 50 + 30 + 20, true),
        ("a report that is a floor", messages, 200, vec![start, delta], End::ClientGone, 50 + 10 + 20, true),
        ("a report, nothing after it", messages, 200, vec![start], End::ClientGone, 50 + 10, false),
        ("item 27 failed before output", messages, 200, vec![start, stop], End::Eof, 0, false),
        (
            "item 47 failed after output",
            messages,
            200,
            vec![start, delta, stop],
            End::Eof,
            50 + 10 + 20,
            true,
        ),
        ("item 27 failed before output", responses, 200, vec![failed], End::Eof, 0, false),
        ("item 27 failed after output", responses, 200, vec![spoken, failed], End::Eof, 50 + 30, false),
    ] {
        let body = parts.concat();
        let mut answer = Answer::events(dialect, body.as_bytes());
        answer.head.status = status;
        answer.end = end;
        let (metered, _) = answer.check();
        let bill = charge(&price(), &metered, &request()).unwrap();
        assert_eq!((bill.nano, bill.estimated), (Amount::from_units(nano), estimated), "{case}");
        check_sum(&bill);
    }
}

/// Item 27: an upstream that accepts a call and then says nothing at all has failed, whatever it calls its
/// body. Whoever leaves meanwhile owes the input (MTR-27).
#[test]
fn an_empty_body_costs_nothing() {
    for content_type in [None, Some("application/json"), Some("text/event-stream")] {
        for (end, nano) in [(End::Eof, 0), (End::Reset, 0), (End::ClientGone, 106)] {
            let mut answer = Answer::events(Dialect::OpenAiChat, b"");
            (answer.head.content_type, answer.end) = (content_type, end);
            let (metered, _) = answer.run(&[1]);
            let bill = charge(&price(), &metered, &request()).unwrap();
            assert_eq!(bill.nano, Amount::from_units(nano), "{content_type:?} {end:?}");
        }
    }
}

/// r02: whoever leaves, at whatever event, owes the input and what was given to him.
#[test]
fn leaving_is_never_free() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"1234\"}}]}\n\n";
    let body = event.repeat(20);
    let mut least = 106;
    for events in 0..=20 {
        let mut answer = Answer::events(Dialect::OpenAiChat, &body.as_bytes()[..events * event.len()]);
        answer.end = End::ClientGone;
        let (metered, _) = answer.run(&[usize::MAX]);
        let bill = charge(&price(), &metered, &request()).unwrap();
        assert_eq!(bill.nano, Amount::from_units(least), "after {events}");
        least += 10;
    }
}

#[test]
fn quantities_table() {
    let with = |usage| Metered { usage: Some(usage), ..reported() };
    let estimate = Metered { basis: Basis::Estimate, ..reported() };
    let limited = EstimateBasis { max_output: Some(30), choices: 2, ..request() };
    let fee = Rates { per_call: Some(Amount::from_units(7)), ..price() };
    let search = Rates { web_search: Some(nano(1000)), ..price() };
    let raw = Metered {
        dialect: Dialect::Raw,
        basis: Basis::Counted,
        usage: Some(Usage { calls: Some(1), ..Usage::default() }),
        ..reported()
    };
    let both =
        Usage { input_uncached: Some(1), input_total: Some(1), output_total: Some(1), ..Usage::default() };
    let partial = Metered {
        basis: Basis::ReportedPartial,
        unreported_bytes: 40,
        ..with(Usage { output_total: Some(100), ..both.clone() })
    };
    for (case, price, metered, request, expected) in [
        (
            "MTR-43 a total at the dearer rate",
            price(),
            with(Usage { total_only: Some(33), ..Usage::default() }),
            request(),
            330,
        ),
        (
            "output alone: the input is estimated",
            price(),
            with(Usage { output_total: Some(2), ..Usage::default() }),
            request(),
            106 + 20,
        ),
        ("MTR-25 capped by the limit of all answers", price(), estimate.clone(), limited, 106 + 600),
        (
            "MTR-25 below the limit",
            price(),
            Metered { text_bytes: 80, ..estimate.clone() },
            limited,
            106 + 200,
        ),
        (
            "MTR-33 media is no text",
            price(),
            with(Usage { output_total: Some(0), ..Usage::default() }),
            EstimateBasis { body_bytes: 1_000_400, media_bytes: 1_000_000, media_parts: 2, ..request() },
            106 + 3200,
        ),
        ("a partial report and what came after it", price(), partial.clone(), request(), 1 + 1000 + 100),
        ("a limit does not undo a report", price(), partial, limited, 1 + 1000),
        (
            "every kind of output counts",
            price(),
            Metered { text_bytes: 4, reasoning_bytes: 4, tool_bytes: 1, ..estimate.clone() },
            request(),
            106 + 30,
        ),
        (
            "an opaque body is not free",
            price(),
            Metered { opaque: true, text_bytes: 0, ..estimate.clone() },
            request(),
            106 + 10_000,
        ),
        (
            "embeddings have no output",
            price(),
            Metered { dialect: Dialect::OpenAiEmbeddings, ..estimate },
            request(),
            106,
        ),
        ("the fee of a call", fee, raw.clone(), request(), 7),
        ("the fee beside tokens", fee, with(both.clone()), request(), 7 + 11),
        (
            "no fee for a call that failed",
            fee,
            Metered { upstream_error: true, before_output: true, ..raw },
            request(),
            0,
        ),
        ("no fee where nothing is billable", fee, Metered { basis: Basis::None, ..reported() }, request(), 0),
        (
            "searches",
            search,
            with(Usage { web_search_requests: Some(2), ..both.clone() }),
            request(),
            2000 + 11,
        ),
        (
            "MTR-6 zero is a report",
            price(),
            with(Usage {
                input_uncached: Some(0),
                input_total: Some(0),
                output_total: Some(0),
                ..Usage::default()
            }),
            request(),
            0,
        ),
    ] {
        let bill = charge(&price, &metered, &request).unwrap();
        assert_eq!(bill.nano, Amount::from_units(expected), "{case}");
        check_sum(&bill);
    }
}

/// MTR-5: each token once; MTR-43: one rounding.
#[test]
fn buckets_table() {
    let rate = Rate::from_femto;
    let price = Rates {
        input: rate(1),
        output: rate(2),
        cache_read: Some(Rate::FREE),
        cache_write: Some(rate(3)),
        cache_write_1h: Some(rate(4)),
        reasoning: Some(rate(5)),
        ..Rates::default()
    };
    let usage = Usage {
        input_uncached: Some(1),
        cache_read: Some(10),
        cache_write: Some(111),
        cache_write_5m: Some(1),
        cache_write_1h: Some(10),
        cache_write_12h: Some(90),
        input_total: Some(122),
        output_total: Some(30),
        reasoning: Some(20),
        ..Usage::default()
    };
    let bill = charge(&price, &Metered { usage: Some(usage), ..reported() }, &request()).unwrap();
    let lines: Vec<_> = bill.lines.iter().map(|l| (l.bucket, l.quantity, l.rate.femto())).collect();
    let expected = [
        (Bucket::Input, 1, 1),
        (Bucket::CacheRead, 10, 0),
        (Bucket::CacheWrite, 11, 3),
        (Bucket::CacheWrite1h, 10, 4),
        (Bucket::CacheWrite12h, 90, 3),
        (Bucket::Output, 10, 2),
        (Bucket::Reasoning, 20, 5),
    ];
    assert_eq!(lines, expected);
    assert_eq!(bill.femto, Femto::from_units(1 + 33 + 40 + 270 + 20 + 100));
    assert_eq!(bill.nano, Amount::from_units(1), "rounded once, up");
}

/// Sounds and images are parts of what was read and generated: with a price of their own they are taken out of it, the
/// input out of what was read in full first (reference item 30), and without one they stay there.
#[test]
fn sounds_and_images_once() {
    use Bucket as B;
    let rate = Rate::from_femto;
    let plain = Rates { input: rate(1), output: rate(2), cache_read: Some(rate(3)), ..Rates::default() };
    let heard = Rates { audio_in: Some(rate(10)), audio_out: Some(rate(20)), ..plain };
    let seen = Rates { image_in: Some(rate(30)), image_out: Some(rate(40)), ..heard };
    let thinking = Rates { reasoning: Some(rate(5)), ..seen };
    let usage = |audio_in, image_in| Usage {
        input_uncached: Some(100),
        cache_read: Some(50),
        cache_write: Some(10),
        input_total: Some(160),
        output_total: Some(100),
        reasoning: Some(7),
        audio_in: Some(audio_in),
        image_in: Some(image_in),
        audio_out: Some(30),
        image_out: Some(20),
        ..Usage::default()
    };
    for (case, price, usage, expected) in [
        (
            "no prices of their own",
            plain,
            usage(40, 5),
            vec![(B::Input, 100), (B::CacheRead, 50), (B::CacheWrite, 10), (B::Output, 100)],
        ),
        (
            "sounds",
            heard,
            usage(40, 5),
            vec![
                (B::Input, 60),
                (B::CacheRead, 50),
                (B::CacheWrite, 10),
                (B::AudioIn, 40),
                (B::Output, 70),
                (B::AudioOut, 30),
            ],
        ),
        (
            "more than was read in full",
            heard,
            usage(120, 0),
            vec![
                (B::CacheRead, 30),
                (B::CacheWrite, 10),
                (B::AudioIn, 120),
                (B::Output, 70),
                (B::AudioOut, 30),
            ],
        ),
        (
            "both, and all that there is",
            seen,
            usage(100, 60),
            vec![(B::AudioIn, 100), (B::ImageIn, 60), (B::Output, 50), (B::AudioOut, 30), (B::ImageOut, 20)],
        ),
        (
            "more than there is",
            seen,
            usage(100, 90),
            vec![(B::AudioIn, 100), (B::ImageIn, 60), (B::Output, 50), (B::AudioOut, 30), (B::ImageOut, 20)],
        ),
        (
            "beside reasoning",
            thinking,
            usage(0, 0),
            vec![
                (B::Input, 100),
                (B::CacheRead, 50),
                (B::CacheWrite, 10),
                (B::Output, 43),
                (B::AudioOut, 30),
                (B::ImageOut, 20),
                (B::Reasoning, 7),
            ],
        ),
    ] {
        let bill = charge(&price, &Metered { usage: Some(usage), ..reported() }, &request()).unwrap();
        let lines: Vec<_> = bill.lines.iter().map(|line| (line.bucket, line.quantity)).collect();
        assert_eq!(lines, expected, "MTR-5 {case}");
        let total: u64 = lines.iter().map(|(_, quantity)| quantity).sum();
        assert_eq!(total, 260, "{case}: every token once");
        check_sum(&bill);
    }
}

#[test]
fn some_calls_have_no_bill() {
    let pending = Metered { basis: Basis::Pending, terminal: Terminal::Pending, ..reported() };
    assert_eq!(charge(&price(), &pending, &request()), Err(ChargeError::Pending));
    let dear = Rates { output: Rate::from_femto(u64::MAX), ..price() };
    let usage = Usage { output_total: Some(1 << 53), input_total: Some(0), ..Usage::default() };
    let huge = Metered { usage: Some(usage), ..reported() };
    assert_eq!(charge(&dear, &huge, &request()), Err(ChargeError::OutOfRange), "MTR-43 never wraps");
}

#[test]
fn ceiling_table() {
    let half = HoldPolicy::default();
    let bytes = HoldPolicy { input_bound: InputBound::Bytes, ..half };
    let plain = Rates { input: nano(1), output: nano(10), ..Rates::default() };
    let capped = Rates { max_output_tokens: Some(50), ..plain };
    let narrow = Rates { max_input_tokens: Some(300), ..plain };
    let caching = Rates { cache_write: Some(nano(2)), cache_write_1h: Some(nano(3)), ..plain };
    let thinking = Rates { reasoning: Some(nano(20)), ..plain };
    let fee = Rates { per_call: Some(Amount::from_units(5)), ..plain };
    let (chat, messages) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
    let limit = r#"{"model":"m","max_tokens":100}"#;
    for (case, price, dialect, body, policy, expected) in [
        ("MTR-32 a limit", plain, chat, limit, half, 500 + 1000),
        ("MTR-33 bytes", plain, chat, limit, bytes, 1000 + 1000),
        ("MTR-32 the model takes no more", narrow, chat, limit, bytes, 300 + 1000),
        ("MTR-32 no limit", plain, chat, r#"{"model":"m"}"#, half, 500 + 40_960),
        ("MTR-32 the model's cap", capped, chat, limit, half, 500 + 500),
        ("MTR-32 several answers", plain, chat, r#"{"model":"m","max_tokens":100,"n":3}"#, half, 500 + 3000),
        ("MTR-33 messages", plain, chat, r#"{"model":"m","max_tokens":1,"messages":[1,2]}"#, half, 506 + 10),
        ("MTR-32 writes that nobody asked for", caching, chat, limit, half, 1500 + 1000),
        ("MTR-32 no writes unless asked for", caching, messages, limit, half, 500 + 1000),
        (
            "MTR-32 writes asked for",
            caching,
            messages,
            r#"{"model":"m","max_tokens":1,"cache_control":{}}"#,
            half,
            1500 + 10,
        ),
        ("MTR-32 reasoning may be all of it", thinking, chat, limit, half, 500 + 2000),
        ("MTR-32 the fee", fee, chat, limit, half, 5 + 500 + 1000),
        ("embeddings", plain, Dialect::OpenAiEmbeddings, r#"{"model":"m"}"#, half, 500),
        ("counting is free", fee, Dialect::AnthropicCountTokens, limit, half, 0),
        ("raw", fee, Dialect::Raw, "", half, 5),
    ] {
        let facts = scan_request(dialect, body.as_bytes()).unwrap();
        let ceiling = ceiling(&price, &facts, 1000, &policy).unwrap();
        assert_eq!(ceiling.nano, Amount::from_units(expected), "{case}");
        assert_eq!(ceiling.cost.to_nano_up().unwrap(), ceiling.nano, "{case}");
    }
}

#[test]
fn affordable_table() {
    let facts = |body: &str| scan_request(Dialect::OpenAiChat, body.as_bytes()).unwrap();
    let free = Rates { input: nano(1), ..Rates::default() };
    let limited = r#"{"model":"m","max_tokens":1000}"#;
    let small = r#"{"model":"m","max_tokens":10}"#;
    let two = r#"{"model":"m","max_tokens":1000,"n":2}"#;
    for (case, price, body, available, expected) in [
        ("all of it", price(), limited, 10_500, Some(1000)),
        ("one nano short", price(), limited, 10_499, Some(999)),
        ("MTR-34 the minimum", price(), limited, 500 + 2560, Some(256)),
        ("MTR-34 below the minimum", price(), limited, 500 + 2559, None),
        ("a small wish below the minimum", price(), small, 600, Some(10)),
        ("a small wish not covered", price(), small, 599, None),
        ("the input is not covered", price(), limited, 499, None),
        ("several answers share", price(), two, 500 + 20 * 300, Some(300)),
        ("no limit: the default", price(), r#"{"model":"m"}"#, 1_000_000, Some(4096)),
        ("free output", free, limited, 500, Some(1000)),
        ("a debt covers nothing", price(), limited, -1, None),
    ] {
        let available = Amount::from_units(available);
        let affordable = affordable_output(&price, &facts(body), 1000, available, &HoldPolicy::default());
        assert_eq!(affordable, expected, "{case}");
    }
}

/// Images that were given and not counted are those that were asked for; none where nothing was given.
#[test]
fn images_that_nobody_counted_are_not_free() {
    let each = Rates { image: Some(nano(40)), ..Rates::default() };
    let two = EstimateBasis { choices: 2, ..request() };
    let unread =
        Metered { dialect: Dialect::OpenAiImages, basis: Basis::Estimate, text_bytes: 0, ..reported() };
    let gone = Metered { terminal: Terminal::ClientGone, ..unread.clone() };
    for (case, metered, expected) in [
        ("an encoding that is not read", Metered { opaque: true, ..unread.clone() }, 80),
        ("only previews were seen", gone.clone(), 80),
        ("nothing came", Metered { before_output: true, body_bytes: 0, ..gone }, 0),
    ] {
        assert_eq!(charge(&each, &metered, &two).unwrap().nano.units(), expected, "{case}");
    }
}
