//! Answers to paid requests, for a client that lost its own.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;

/// Largest body kept for a replay, and how much and how long all of them are kept (reference item 39).
pub(crate) const REPLAY_BODY_BYTES_MAX: usize = 1024 * 1024;
const REPLAY_BYTES_MAX: usize = 64 * 1024 * 1024;
const REPLAY_AGE_MAX: Duration = Duration::from_secs(600);

/// Bodies of paid answers, in memory for a while, for a client that lost its answer.
#[derive(Debug, Default)]
pub(crate) struct Replays(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    answers: VecDeque<([u8; 32], Instant, Response<Bytes>)>,
    bytes: usize,
}

impl Replays {
    pub(crate) fn keep(&self, key: [u8; 32], answer: Response<Bytes>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += answer.body().len();
        kept.answers.push_back((key, Instant::now(), answer));
        while let Some((_, since, oldest)) = kept.answers.front() {
            if kept.bytes <= REPLAY_BYTES_MAX && since.elapsed() < REPLAY_AGE_MAX {
                break;
            }
            let freed = oldest.body().len();
            kept.bytes -= freed;
            kept.answers.pop_front();
        }
    }

    pub(crate) fn find(&self, key: &[u8; 32]) -> Option<Response<Bytes>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |(known, since, _): &&([u8; 32], Instant, Response<Bytes>)| {
            known == key && since.elapsed() < REPLAY_AGE_MAX
        };
        kept.answers.iter().find(fresh).map(|(_, _, answer)| answer.clone())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;

    use super::Replays;

    #[test]
    fn replays_are_bounded() {
        let replays = Replays::default();
        let body = Bytes::from(vec![0; super::REPLAY_BODY_BYTES_MAX]);
        for at in 0..65u8 {
            replays.keep([at; 32], Response::new(body.clone()));
        }
        assert!(replays.find(&[0; 32]).is_none());
        assert!(replays.find(&[64; 32]).is_some());
    }
}
