//! Many streams at once: each event carries the time at which the upstream made it, and its reader looks at the same clock.

use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::task::JoinSet;

use crate::load::{Connection, Framing, Lane, Target, skip_chunks};
use crate::upstream::{CLOCK_MARK, clock_micros};

/// Streams do not start together: agents do not.
const STARTS_OVER: Duration = Duration::from_millis(500);
/// Longest between two pieces of an answer.
const PIECE_TIME_MAX: Duration = Duration::from_secs(30);

/// What all streams of a round brought.
#[derive(Default)]
pub(crate) struct Streamed {
    /// Microseconds from the upstream's write to our read, of every event, sorted.
    pub(crate) delays: Vec<u64>,
    /// The same of the first event of each stream.
    pub(crate) firsts: Vec<u64>,
    /// Reads that brought more than one event: somebody gathers, or the reader was late.
    pub(crate) gathered: usize,
    pub(crate) took: Duration,
}

/// Opens so many streams and reads each to its end; `meanwhile` is called once when all are open.
pub(crate) async fn run(
    target: &Target,
    lanes: Vec<Lane>,
    expected: u16,
    mut meanwhile: impl FnMut(),
) -> Result<Streamed, String> {
    let start = Instant::now();
    let count = u32::try_from(lanes.len()).unwrap_or(u32::MAX).max(1);
    let mut tasks = JoinSet::new();
    for (number, lane) in (0u32..).zip(lanes) {
        let (target, wait) = (target.clone(), STARTS_OVER * number / count);
        tasks.spawn_local(async move {
            tokio::time::sleep(wait).await;
            one(&target, &lane, expected).await
        });
    }
    tokio::time::sleep(STARTS_OVER * 2).await;
    meanwhile();
    let mut all = Streamed::default();
    while let Some(done) = tasks.join_next().await {
        let (delays, gathered) = done.map_err(|error| error.to_string())??;
        all.firsts.extend(delays.first());
        all.delays.extend(delays);
        all.gathered += gathered;
    }
    all.took = start.elapsed();
    all.delays.sort_unstable();
    all.firsts.sort_unstable();
    Ok(all)
}

async fn one(target: &Target, lane: &Lane, expected: u16) -> Result<(Vec<u64>, usize), String> {
    let request = lane.next().ok_or("nothing left to send")?;
    let mut connection = Connection::open(target).await?;
    let begun = tokio::time::timeout(PIECE_TIME_MAX, connection.begin(&request)).await;
    let begun = begun.map_err(|_| "no head of an answer in time".to_owned())?;
    let (answer, framing, body) = begun.map_err(|error| error.to_string())?;
    if answer.status != expected {
        return Err(format!("status {} instead of {expected}: {}", answer.status, connection.said()));
    }
    let (mut delays, mut gathered) = (Vec::new(), 0);
    let (mut seen, mut chunk_at) = (body, body);
    loop {
        let now = clock_micros();
        let before = delays.len();
        seen = take(&connection.buffer, seen, now, &mut delays);
        gathered += usize::from(delays.len() > before + 1);
        let whole = match framing {
            Framing::Length(length) => connection.buffer.len() - body >= length,
            Framing::Chunked => skip_chunks(&connection.buffer, &mut chunk_at),
            Framing::UntilClosed => false,
        };
        if whole {
            return Ok((delays, gathered));
        }
        match tokio::time::timeout(PIECE_TIME_MAX, connection.more()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) if matches!(framing, Framing::UntilClosed) => return Ok((delays, gathered)),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("a stream fell silent".to_owned()),
        }
    }
}

/// Reads the times of the events that have come whole since `from`; where the next one may begin.
fn take(buffer: &[u8], mut from: usize, now: u64, delays: &mut Vec<u64>) -> usize {
    while let Some(found) = buffer.get(from..).and_then(|rest| memmem::find(rest, CLOCK_MARK)) {
        let digits = from + found + CLOCK_MARK.len();
        let rest = buffer.get(digits..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| !byte.is_ascii_digit()) else { break };
        let text = rest.get(..end).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(made) = text.and_then(|text| text.parse::<u64>().ok()) {
            delays.push(now.saturating_sub(made));
        }
        from = digits + end;
    }
    from
}

#[cfg(test)]
mod tests {
    use super::take;

    /// An event whose time has not come whole is read with the next piece, and none is read twice.
    #[test]
    fn times_of_events_in_pieces() {
        let whole = br#"data: {"content":"t=100 "} data: {"content":"t=250 "} data: {"content":"x"}"#;
        for cut in 0..whole.len() {
            let mut delays = Vec::new();
            let from = take(&whole[..cut], 0, 300, &mut delays);
            take(whole, from, 300, &mut delays);
            assert_eq!(delays, [200, 50], "cut at {cut}");
        }
    }
}
