//! What is measured, table by table, and what was to be reached.

mod cost;
mod disk;
mod latency;
mod llm_proxies;
mod memory;
mod pressure;
mod profile;
mod sellers;
mod streams;
mod targets;
mod transport;

use std::pin::Pin;

use crate::Options;
use crate::peers::Behind;
use crate::places::Places;
use crate::table::{Effort, Table};

pub(crate) use targets::{GOALS, NGINX, NGINX_ASKS, PAID, PLAIN};

/// What every scenario has.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) places: &'a Places,
    pub(crate) behind: Behind,
    pub(crate) effort: Effort,
    pub(crate) options: &'a Options,
}

type Measured<'a> = Pin<Box<dyn Future<Output = Result<Vec<Table>, String>> + 'a>>;

/// A scenario: the name it is chosen by, and what it does.
pub(crate) type Scenario = (&'static str, for<'a> fn(Stage<'a>) -> Measured<'a>);

/// In the order of a run. Whatever is started by one ends with it.
pub(crate) const SCENARIOS: [Scenario; 10] = [
    ("cost", |stage| Box::pin(cost::run(stage))),
    ("profile", |stage| Box::pin(profile::run(stage))),
    ("latency", |stage| Box::pin(latency::run(stage))),
    ("streams", |stage| Box::pin(streams::run(stage))),
    ("transport", |stage| Box::pin(transport::run(stage))),
    ("sellers", |stage| Box::pin(sellers::run(stage))),
    ("llm-proxies", |stage| Box::pin(llm_proxies::run(stage))),
    ("pressure", |stage| Box::pin(pressure::run(stage))),
    ("memory", |stage| Box::pin(memory::run(stage))),
    ("disk", |stage| Box::pin(disk::run(stage))),
];

/// Connections of a load.
pub(crate) const CONNECTIONS: usize = 64;
