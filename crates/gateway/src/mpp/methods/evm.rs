//! `evm`/`charge`: a transfer that the token itself lets anybody send, signed for one challenge by its nonce (EIP-3009).
//!
//! It settles as one of x402 does, through the same facilitators, and has the same deposit key, so it funds once whichever
//! door it comes through (MPP-23).

use std::sync::Arc;

use proof::mpp::evm as proof;
use proof::x402_exact::EvmToken;
use serde_json::Value;
use wire::mpp::evm::{AUTHORIZATION, Payload, Request};
use wire::mpp::{CHARGE, Credential, Problem};
use wire::x402::{Address, ExactPayload};

use super::super::{Demand, Echo, Offer, Proven, refused};
use crate::admission::Brings;
use crate::config::MppMethod;
use crate::payments;
use crate::refusal::Refusal;
use crate::till::{Method, Till};

/// What a payer signed, as a facilitator reads it.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) payload: ExactPayload,
    /// CAIP-2.
    pub(crate) network: String,
}
