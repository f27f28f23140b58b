//! Writes the vectors of the ledger: `cargo run -p ledger --example golden > specs/vectors/ledger/entries.json`
#![expect(clippy::unwrap_used, reason = "vectors that cannot be made are none")]

#[path = "../tests/journal/mod.rs"]
mod journal;

fn main() {
    print!("{}", journal::golden::golden());
}
