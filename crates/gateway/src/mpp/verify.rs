//! A credential held against what the request at hand demands: cheap questions first, nothing claimed (MPP-13).

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wire::base64;
use wire::mpp::{Credential, Problem};

use super::{Echo, PROTOCOL, Told, methods, refused};
use crate::admission::Brings;
use crate::call::{Arrived, Worker};
use crate::challenge::{Ask, challenge};
use crate::gate::Gate;
use crate::payer::Payer;
use crate::random;
use crate::refusal::Refusal;

/// Bytes of the salt in a quote's mark, and of the hash.
const SALT_BYTES: usize = 12;
const MARK_BYTES: usize = 12;
/// Of both, as they stand in a challenge.
const MARK_TEXT_BYTES: usize = (SALT_BYTES + MARK_BYTES) * 4 / 3;

/// What is to be paid for, by whom it is asked.
#[derive(Clone, Copy)]
pub(crate) struct Demand<'a> {
    pub(crate) gate: &'a Arc<Gate>,
    pub(crate) arrived: &'a Arrived,
    pub(crate) ask: &'a Ask<'a>,
}

/// What a good credential leads to.
pub(crate) enum Proven {
    /// Money comes in, and the call draws on it.
    Brings(Brings),
    /// The money is there already: whoever pays is known without a payment.
    Opens,
    /// The money is there already: whose it is, the credential says.
    Draws(Box<Payer>),
}

impl Demand<'_> {
    /// What a challenge is for: a route, or an endpoint of ours, which no route is called like: names and paths have no
    /// `#`.
    pub(super) fn place(&self) -> String {
        match self.ask.route(&self.arrived.snapshot) {
            Some(route) => route.name.clone(),
            None => format!("#{}", self.ask.description),
        }
    }

    /// A mark for a quote: of this request, and of no other challenge. Two payments of one wallet must never have the
    /// same id, or the second would be a replay.
    pub(super) fn mark(&self) -> String {
        // Shown to everybody: being unlike all others is all that is asked of it.
        self.mark_with(&random::name())
    }

    /// Whether a quote was given for this request.
    pub(super) fn is_marked(&self, mark: &str) -> bool {
        let bytes = base64::decode_url(mark, MARK_TEXT_BYTES);
        let salt = bytes.ok().and_then(|bytes| bytes.first_chunk::<SALT_BYTES>().copied());
        salt.is_some_and(|salt| self.mark_with(&salt) == mark)
    }

    fn mark_with(&self, salt: &[u8; SALT_BYTES]) -> String {
        let hash = Sha256::new_with_prefix(b"farthing/mpp-quote/1").chain_update(salt);
        let hash = hash.chain_update(self.ask.line()).finalize();
        let mut bytes = [0; SALT_BYTES + MARK_BYTES];
        for (byte, from) in bytes.iter_mut().zip(salt.iter().chain(&hash)) {
            *byte = *from;
        }
        base64::encode_url(&bytes)
    }
}

/// Checks a credential, and counts it for its source where it is bad.
///
/// # Errors
/// A challenge where a payment would help; nothing was claimed.
pub(crate) async fn verify(
    worker: &Worker,
    arrived: &Arrived,
    credential: Credential,
    ask: &Ask<'_>,
) -> Result<(Proven, Told), Refusal> {
    let gate = &worker.gate;
    arrived.noted.protocol(PROTOCOL);
    let demand = Demand { gate, arrived, ask };
    let told = Told::of(&credential);
    let proven = proven(&demand, credential);
    gate.metrics.proof(PROTOCOL, if proven.is_ok() { "good" } else { "bad" });
    match proven {
        Ok(proven) => Ok((proven, told)),
        Err(refusal) => {
            arrived.snapshot.limiters.count_invalid(arrived.source);
            let lacks = refusal.lacks_offers();
            Err(if lacks { Box::pin(challenge(gate, arrived, ask, refusal)).await } else { refusal })
        }
    }
}

fn proven(demand: &Demand<'_>, credential: Credential) -> Result<Proven, Refusal> {
    let desk = demand.arrived.snapshot.mpp.as_ref();
    let desk = desk
        .ok_or_else(|| refused(Problem::MethodUnsupported, "not_taken", "No payment is taken this way."))?;
    let checked = Echo::read(demand, desk, &credential).and_then(|echo| methods::verify(demand, &echo));
    match checked {
        Ok(proven) => Ok(proven),
        // What it settled, or may have settled, is not over because its challenge is.
        Err(refusal) => match methods::seen(demand, desk, &credential)? {
            Some(seen) => Ok(seen),
            None => Err(refusal),
        },
    }
}
