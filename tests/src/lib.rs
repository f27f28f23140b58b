//! Tests over the whole: what holds between the crates, and scenarios on loopback.
