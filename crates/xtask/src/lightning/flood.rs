//! Many who pay nothing: the node is not asked for more invoices than the operator allows, and who has paid is served.

use std::thread;
use std::time::{Duration, Instant};

use super::calls::{Scene, expect};
use super::gateway::{FIXED, Gateway, INVOICES_AT_ONCE, INVOICES_PER_SECOND, unexpected};
use super::timing::Timing;

const CLIENTS: usize = 8;
const REQUESTS: usize = 100;

/// What an unpaid request brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brought {
    Invoice,
    /// 429: the budget is spent.
    Patience,
}

/// Every request on a connection of its own, so that nobody is shown an invoice again.
pub(super) fn makes_few_invoices(scene: &mut Scene<'_>) -> Result<String, String> {
    let bought = scene.strict.offer(scene.nodes, FIXED)?;
    let preimage = scene.pay(&bought)?;
    let (made, hits) = (scene.nodes.payee.invoices()?, scene.strict.hits()?);
    let gateway = &scene.strict;
    let began = Instant::now();
    let answers = thread::scope(|scope| {
        let floods: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| flood(gateway))).collect();
        let served = gateway.call(FIXED, &bought, &preimage)?;
        if served.status != 200 {
            return Err(unexpected("a paid call in the flood", &served));
        }
        let floods = floods.into_iter().map(|flood| flood.join().map_err(|_| "a client died".to_owned())?);
        floods.collect::<Result<Vec<_>, String>>().map(|floods| floods.concat())
    })?;
    let seconds = began.elapsed().as_secs() + 1;
    let made = scene.nodes.payee.invoices()? - made;
    let most = INVOICES_AT_ONCE + INVOICES_PER_SECOND * seconds;
    if made == 0 || made > most {
        return Err(format!("{made} invoices were made in {seconds} s, at most {most} may be"));
    }
    let (mut with, mut without) = (Timing::default(), Timing::default());
    let mut shown = 0;
    for (brought, took) in &answers {
        match brought {
            Brought::Invoice => {
                shown += 1;
                with.add(*took);
            }
            Brought::Patience => without.add(*took),
        }
    }
    expect("invoices shown", shown, made)?;
    expect("calls of the upstream", scene.strict.hits()? - hits, 1)?;
    Ok(format!(
        "{} requests, {made} invoices (at most {most}); with one {with}; without {without}",
        answers.len()
    ))
}

fn flood(gateway: &Gateway) -> Result<Vec<(Brought, Duration)>, String> {
    let mut answers = Vec::new();
    for _ in 0..REQUESTS {
        let began = Instant::now();
        let answer = gateway.ask(FIXED)?;
        let took = began.elapsed();
        let offers = answer.all("www-authenticate").any(|line| line.starts_with("L402 "));
        let waits = answer.all("retry-after").any(|seconds| seconds.parse::<u32>().is_ok_and(|s| s > 0));
        answers.push(match (answer.status, offers, waits) {
            (402, true, _) => (Brought::Invoice, took),
            (429, false, true) => (Brought::Patience, took),
            _ => return Err(unexpected("an unpaid request", &answer)),
        });
    }
    Ok(answers)
}
