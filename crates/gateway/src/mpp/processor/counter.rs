//! A processor of the configuration, and what is asked for through it.

use std::io;

use rails::Settlement;
use rails::dial::Dialer;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use wire::template::{MARKS, Template};

use super::{ASSET, Order, cents_up};
use crate::challenge::Through;
use crate::config::{self, Mode, Processing};
use crate::mpp::methods::{card, stripe};
use crate::mpp::{Demand, written};
use crate::snapshot::origin;

/// Payments that one processor is asked for at the same time; who comes when there is no room waits for nobody.
const AT_ONCE_MAX: usize = 32;

/// One processor.
#[derive(Debug)]
pub(in crate::mpp) struct Counter<R> {
    /// As it is written.
    pub(in crate::mpp) rules: R,
    /// What is asked for: cents.
    request: Template,
    processing: Processing,
    service: Service,
    room: Semaphore,
}

#[derive(Debug)]
enum Service {
    Stripe(rails::stripe::Stripe),
    Card(rails::card::Processor),
}

impl Counter<config::Stripe> {
    pub(in crate::mpp) fn new(rules: &config::Stripe, mode: Mode, dialer: &Dialer) -> io::Result<Self> {
        let time_max = rules.processing.time_max;
        let service = Service::Stripe(rails::stripe::Stripe {
            origin: origin(&rules.url),
            base: rules.url.base_path.clone(),
            key: rails::Secret::new(rules.key.expose()),
            account: rules.account.clone(),
            is_live: match mode {
                Mode::Live => true,
                Mode::Test => false,
            },
            dialer: dialer.within(time_max),
            time_max,
        });
        Self::of(rules.clone(), &stripe::request(rules, MARKS[0]), rules.processing, service)
    }
}

impl Counter<config::Card> {
    pub(in crate::mpp) fn new(rules: &config::Card, dialer: &Dialer) -> io::Result<Self> {
        let time_max = rules.processing.time_max;
        let path = if rules.url.base_path.is_empty() { "/" } else { &rules.url.base_path };
        let service = Service::Card(rails::card::Processor {
            origin: origin(&rules.url),
            path: path.to_owned(),
            key: rails::Secret::new(rules.key.expose()),
            dialer: dialer.within(time_max),
            time_max,
        });
        Self::of(rules.clone(), &card::request(rules, MARKS[0]), rules.processing, service)
    }
}

impl<R> Counter<R> {
    fn of(rules: R, asks: &impl Serialize, processing: Processing, service: Service) -> io::Result<Self> {
        let request = written(asks, 1)?;
        Ok(Self { rules, request, processing, service, room: Semaphore::new(AT_ONCE_MAX) })
    }

    /// What is asked for, of so many cents; canonical.
    pub(in crate::mpp) fn request(&self, cents: u64) -> String {
        self.request.fill(&[&cents.to_string()])
    }

    /// Cents that are asked for; none where this is not sold so, or costs more than is asked for at once.
    pub(in crate::mpp) fn asked(&self, demand: &Demand<'_>) -> Option<u64> {
        match demand.ask.through {
            Through::All | Through::Deposits => {}
            Through::Channels | Through::Sessions => return None,
        }
        let amount = demand.ask.ceiling.max(self.processing.deposit);
        debug_assert_eq!(ASSET.exponent(), 9, "a ceiling is counted as the asset is");
        cents_up(amount).filter(|_| amount <= self.processing.ceiling_max)
    }

    /// A turn at this processor.
    pub(in crate::mpp) fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire().ok()
    }

    /// Asks for a payment, or what became of it.
    ///
    /// # Cancel safety
    /// Dropped midway, the payment may have been made.
    pub(in crate::mpp) async fn charge(&self, order: &Order) -> Settlement {
        match (&self.service, order) {
            (Service::Stripe(stripe), Order::Stripe(order)) => stripe.charge(order).await,
            (Service::Card(processor), Order::Card(order)) => processor.charge(order).await,
            (Service::Stripe(_), Order::Card(_)) | (Service::Card(_), Order::Stripe(_)) => {
                Settlement::NotSent
            }
        }
    }
}
