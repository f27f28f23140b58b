//! Our MPP codec and the crate `mpp`: what one writes the other reads, and what one refuses the other refuses.
//!
//! Where they differ on purpose a test says so by name, and `specs/mpp.md` says why. Everything here is a property over
//! generated input, so the number of cases bounds the time.
#![cfg(test)]

mod accept;
mod challenges;
mod credentials;
mod given;
mod ids;
mod mcp;
mod problems;
mod receipts;

use mpp::{Base64UrlJson, ChallengeEcho, PaymentChallenge, PaymentCredential};
use wire::mpp::{Challenge, Credential, Field};

/// One secret for both.
const SECRET: &str = "peer-secret-key-0123456789abcdef-peer";

/// Our challenge as theirs.
fn theirs(ours: &Challenge) -> PaymentChallenge {
    PaymentChallenge {
        id: ours.id.clone(),
        realm: ours.realm.clone(),
        method: ours.method.as_str().into(),
        intent: ours.intent.as_str().into(),
        request: Base64UrlJson::from_raw(&ours.request),
        expires: ours.expires.clone(),
        description: ours.description.clone(),
        digest: ours.digest.clone(),
        opaque: ours.opaque.as_ref().map(Base64UrlJson::from_raw),
        header: ours.header.clone(),
    }
}

/// Their challenge as ours.
fn ours(theirs: &PaymentChallenge) -> Challenge {
    echoed(&theirs.to_echo())
}

/// Their echo as our challenge.
fn echoed(theirs: &ChallengeEcho) -> Challenge {
    Challenge {
        id: theirs.id.clone(),
        realm: theirs.realm.clone(),
        method: theirs.method.as_str().to_owned(),
        intent: theirs.intent.as_str().to_owned(),
        request: theirs.request.raw().to_owned(),
        expires: theirs.expires.clone(),
        description: theirs.description.clone(),
        digest: theirs.digest.clone(),
        opaque: theirs.opaque.as_ref().map(|opaque| opaque.raw().to_owned()),
        header: theirs.header.clone(),
    }
}

/// Our credential as theirs.
fn credential(ours: &Credential) -> PaymentCredential {
    let echo = theirs(&ours.challenge).to_echo();
    match &ours.source {
        Some(source) => PaymentCredential::with_source(echo, source, &ours.payload),
        None => PaymentCredential::new(echo, &ours.payload),
    }
}

/// Our reading of a line, of either field.
fn read(field: Field, line: &str) -> Option<Credential> {
    let name = match field {
        Field::Authorization => "authorization",
        Field::PaymentAuthorization => "payment-authorization",
    };
    Credential::read([(name, line.as_bytes())]).ok().flatten()
}
