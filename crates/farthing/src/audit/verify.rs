//! `farthing verify`: is the journal what the operator signed? Entries and heads against public keys, nothing
//! else: an export is enough, and nobody has to be believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use client::SignedHead;
use ledger::audit::{Accounts, Audit, Finding, Problem, Report};
use ledger::{AccountId, Checkpoint, Entry, Kind};
use money::Amount;
use serde_json::json;
use wire::jws::Jwks;

use super::{Found, Verdict, keys};
use crate::books::{Line, Position};
use crate::source::{NoSource, Source, StoreArgs};

/// `farthing verify`
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 nothing was found, 1 something was, 2 it could not run.")]
pub(crate) struct VerifyArgs {
    /// Public key of the gateway, 64 hex digits or base64url; may be repeated
    // One of 64 keys in base64url begins with a hyphen.
    #[arg(long = "key", value_name = "PUBLIC", required = true, allow_hyphen_values = true)]
    keys: Vec<String>,
    /// An export instead of a store: farthing export --format jsonl
    #[arg(long, value_name = "FILE", conflicts_with_all = ["store", "segments"])]
    journal: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    /// Heads that were kept elsewhere, one JSON object a line: the journal must have them too
    #[arg(long, value_name = "FILE")]
    witness: Option<PathBuf>,
    /// One JSON document even on a terminal
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &VerifyArgs) -> ExitCode {
    match verify(args) {
        Ok(verdict) => verdict.tell(args.json),
        Err(problem) => problem.complain(),
    }
}

fn verify(args: &VerifyArgs) -> Result<Verdict, NoSource> {
    let keys = keys(&args.keys)?;
    let witness = args.witness.as_deref().map(read_heads).transpose()?.unwrap_or_default();
    match &args.journal {
        Some(path) => Ok(verify_journal(path, &keys, &witness)?),
        None => Ok(verify_store(&Source::find(&args.store)?, &keys, &witness)?),
    }
}

/// What stands in a store's file, and in its segments where there are some.
fn verify_store(source: &Source, keys: &Jwks, witness: &[SignedHead]) -> Result<Verdict, String> {
    let failed = |error: store::StoreError| error.to_string();
    let reader = source.reader()?;
    let base = reader.checkpoint().map_err(failed)?;
    let before = if source.segments().is_some() { Checkpoint::default() } else { base };
    // What the store says of itself; only what is signed counts.
    let (store_id, epoch) = (reader.store_id().map_err(failed)?, reader.epoch().map_err(failed)?);
    let frontier = before.frontier.clone();
    let position = Position { store_id, epoch, first: before.lsn + 1, last: 0, frontier };
    let mut check = Check::new(before, &position);
    let kept = reader.heads().map_err(failed)?;
    let kept = kept.iter().map(|signed| SignedHead::new(&signed.head, &signed.signature, String::new()));
    for head in kept.chain(witness.iter().cloned()) {
        check.expect(&head, keys, &position);
    }
    let walked = reader.journal(source.segments(), |lsn, bytes| {
        check.entry(lsn, bytes, true);
        ControlFlow::Continue(())
    });
    if let Err(error) = walked {
        check.find(check.next, &error.to_string());
    }
    Ok(check.finish(0))
}

/// What the first reading of an export finds out.
#[derive(Default)]
struct Outline {
    position: Option<Position>,
    heads: Vec<SignedHead>,
    /// Where a part of a journal takes up: what its first entries say was before them.
    before: Checkpoint,
}

fn verify_journal(path: &Path, keys: &Jwks, witness: &[SignedHead]) -> Result<Verdict, String> {
    let outline = outline(path)?;
    let position =
        outline.position.ok_or_else(|| format!("{}: not an export of a journal", path.display()))?;
    let mut check = Check::new(outline.before, &position);
    for head in outline.heads.iter().chain(witness) {
        check.expect(head, keys, &position);
    }
    each_line(path, |number, line| match line {
        Some(Line::Start(_) | Line::Head(_)) => {}
        Some(Line::Entry { lsn, bytes, faithful }) => check.entry(lsn, &bytes, faithful),
        None => check.unreadable(number),
    })?;
    Ok(check.finish(position.last))
}

fn outline(path: &Path) -> Result<Outline, String> {
    let mut outline = Outline::default();
    let mut balances: BTreeMap<(u16, AccountId), Amount> = BTreeMap::new();
    let mut is_first = true;
    each_line(path, |_, line| match line {
        Some(Line::Start(position)) => {
            outline.before.lsn = position.first.saturating_sub(1);
            outline.before.frontier = position.frontier.clone();
            outline.position = Some(position);
        }
        Some(Line::Head(head)) => outline.heads.push(head),
        Some(Line::Entry { bytes, .. }) if outline.before.lsn > 0 => {
            let Ok(entry) = Entry::parse(&bytes) else { return };
            if std::mem::replace(&mut is_first, false) {
                outline.before.hash = entry.previous;
            }
            for leg in &entry.legs {
                let before = leg.balance_after.minus(leg.amount).unwrap_or_default();
                balances.entry((leg.asset, leg.account)).or_insert(before);
            }
        }
        Some(Line::Entry { .. }) | None => {}
    })?;
    outline.before.balances = balances;
    Ok(outline)
}

/// A check under way.
struct Check {
    audit: Audit,
    /// First LSN that is looked at.
    first: u64,
    found: Vec<Found>,
    heads: u64,
    newest: u64,
    next: u64,
    /// First and last income entry.
    incomes: Option<(u64, u64)>,
}

impl Check {
    fn new(before: Checkpoint, position: &Position) -> Self {
        let (first, next) = (position.first, position.first);
        let audit = Audit::new(before, Accounts::default());
        Self { audit, first, found: Vec::new(), heads: 0, newest: 0, next, incomes: None }
    }

    /// A head must be signed, be of this store, and fit; one from before the part that is there need not.
    fn expect(&mut self, head: &SignedHead, keys: &Jwks, position: &Position) {
        match head.verify(keys) {
            Err(_) => self.find(head.size, "head is not signed by this key"),
            Ok(read) if read.store_id != position.store_id => {
                self.find(head.size, "head is of another store")
            }
            Ok(read) if read.size >= self.first => {
                self.heads += 1;
                self.newest = self.newest.max(read.size);
                self.audit.expect(read);
            }
            Ok(_) => {}
        }
    }

    fn entry(&mut self, lsn: u64, bytes: &[u8], faithful: bool) {
        if !faithful {
            self.find(lsn, "line says something else than its bytes");
        }
        self.audit.feed(lsn, bytes);
        if Entry::parse(bytes).is_ok_and(|entry| entry.draft.kind == Kind::Income) {
            self.incomes = Some((self.incomes.map_or(lsn, |(first, _)| first), lsn));
        }
        self.next = lsn.saturating_add(1);
    }

    fn unreadable(&mut self, line: u64) {
        let lsn = self.next;
        self.find(lsn, &format!("line {line} is of no export"));
    }

    fn find(&mut self, lsn: u64, problem: &str) {
        self.found.push(Found { lsn: Some(lsn), problem: problem.to_owned() });
    }

    fn finish(mut self, last: u64) -> Verdict {
        if self.next <= last {
            let lsn = self.next;
            self.find(lsn, "entry is missing");
        }
        let report = self.audit.finish();
        let Report { entries, findings, more, end } = report;
        let faults = findings.iter().filter(|finding| is_fault(finding, self.first, self.incomes));
        let faults =
            faults.map(|finding| Found { lsn: Some(finding.lsn), problem: finding.problem.to_string() });
        self.found.extend(faults);
        let newest = (self.newest > 0).then_some(self.newest);
        let facts = json!({
            "entries": entries, "first_lsn": self.first, "last_lsn": end.lsn,
            "root": wire::hex::encode(&end.frontier.root()), "heads": self.heads, "newest_head": newest,
            "unsigned_tail": end.lsn.saturating_sub(self.newest.max(self.first.saturating_sub(1))),
        });
        Verdict::new(self.found, more, facts)
    }
}

/// Whether a finding is a fault of the journal, and not of what can be seen of it from here.
fn is_fault(finding: &Finding, first_lsn: u64, incomes: Option<(u64, u64)>) -> bool {
    let (first, last) = incomes.unwrap_or_default();
    match finding.problem {
        // A credit line is a decision, not an entry: who may be below zero is not written here.
        Problem::Floor { .. } => false,
        // A range may start inside a batch, and end inside one.
        Problem::Income => first_lsn == 1 || finding.lsn != first,
        Problem::Clearing => finding.lsn <= last,
        Problem::Missing
        | Problem::OutOfOrder
        | Problem::Damaged
        | Problem::WrongPlace { .. }
        | Problem::Chain
        | Problem::Unbalanced
        | Problem::Legs
        | Problem::Balance { .. }
        | Problem::Range { .. }
        | Problem::Rounding
        | Problem::Id
        | Problem::Deposit
        | Problem::Corrects
        | Problem::Head { .. } => true,
    }
}

/// Heads as a gateway's witness file or a proof has them.
fn read_heads(path: &Path) -> Result<Vec<SignedHead>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut heads = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read = serde_json::from_str(line);
        heads.push(read.map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))?);
    }
    Ok(heads)
}

/// Hands on each line with its number; `None` for one that cannot be read.
fn each_line(path: &Path, mut each: impl FnMut(u64, Option<Line>)) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let (mut bytes, mut number) = (Vec::new(), 0);
    while reader.read_until(b'\n', &mut bytes).map_err(failed)? > 0 {
        number += 1;
        let text = std::str::from_utf8(&bytes).ok().map(str::trim_end);
        each(number, text.and_then(Line::parse));
        bytes.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ledger::merkle::{Frontier, leaf_hash};
    use ledger::{Entry, TreeHead};
    use proof::{SigningKey, receipt, tree_head};
    use serde_json::{Value, json};

    use super::{Found, keys, verify_journal};

    const SAMPLE: &str = include_str!("../books/golden/sample.jsonl");

    /// The golden export, with a head over its first `size` entries.
    struct Desk {
        lines: Vec<String>,
        key: SigningKey,
    }

    fn bytes(line: &str) -> Vec<u8> {
        let line: Value = serde_json::from_str(line).unwrap();
        wire::hex::decode(line["bytes"].as_str().unwrap()).unwrap()
    }

    impl Desk {
        fn new() -> Self {
            let lines = SAMPLE.lines().map(str::to_owned).collect();
            let mut desk = Self { lines, key: SigningKey::from_bytes(&[5; 32]) };
            let (six, all) = (desk.head(6), desk.head(8));
            desk.lines.extend([six, all]);
            desk
        }

        fn head(&self, size: usize) -> String {
            let mut tree = Frontier::default();
            let entries: Vec<_> = self.lines[1..=size].iter().map(|line| bytes(line)).collect();
            entries.iter().for_each(|bytes| tree.append(leaf_hash(bytes)));
            let last_hash = Entry::hash_of(entries.last().unwrap());
            let (store_id, root) = ([0xab; 16], tree.root());
            let head =
                TreeHead { store_id, epoch: 1, size: size as u64, root, last_hash, time_ms: size as u64 };
            let signature = tree_head::sign(&self.key, &head);
            json!({"head": {
                "store_id": wire::hex::encode(&store_id), "epoch": 1, "size": size, "root": wire::hex::encode(&root),
                "last_hash": wire::hex::encode(&last_hash), "time_ms": size,
                "kid": receipt::kid(&self.key.verifying_key()), "signature": wire::hex::encode(&signature),
            }})
            .to_string()
        }

        fn verify(&self, lines: &[String]) -> Vec<Found> {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), lines.join("\n") + "\n").unwrap();
            let keys = keys(&[wire::hex::encode(&self.key.verifying_key().to_bytes())]).unwrap();
            verify_journal(file.path(), &keys, &[]).unwrap().found
        }
    }

    /// A line as an export would have it, from changed bytes: only the chain can tell.
    fn rewritten(line: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut value: Value = serde_json::from_str(line).unwrap();
        let mut bytes = bytes(line);
        change(&mut bytes);
        value["bytes"] = wire::hex::encode(&bytes).into();
        value["hash"] = wire::hex::encode(&Entry::hash_of(&bytes)).into();
        value.to_string()
    }

    #[test]
    fn a_genuine_export_is_clean() {
        let desk = Desk::new();
        assert_eq!(desk.verify(&desk.lines), []);
        // A part carries the tree of what was before it.
        for first in [2, 4, 8] {
            let mut part = desk.lines.clone();
            let mut frontier = Frontier::default();
            part.drain(1..first).for_each(|line| frontier.append(leaf_hash(&bytes(&line))));
            let nodes: Vec<String> = frontier.nodes().iter().map(|node| wire::hex::encode(node)).collect();
            part[0] = json!({"journal": "farthing/1", "store_id": "ab".repeat(16), "epoch": 1,
                             "first_lsn": first, "last_lsn": 8, "frontier": nodes})
            .to_string();
            assert_eq!(desk.verify(&part), [], "from {first}");
            // Without it the heads tell that something else was there.
            let forged = part[0].replace(&nodes[0], &"00".repeat(32));
            part[0] = forged;
            assert!(!desk.verify(&part).is_empty(), "from {first}");
        }
    }

    /// LED-41, bar 12: whatever is done to one record, the first bad one is named.
    #[test]
    fn tampering_is_named_by_position() {
        let desk = Desk::new();
        let with = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = desk.lines.clone();
            change(&mut lines);
            desk.verify(&lines)
        };
        for lsn in 1..=8usize {
            let named = |what: &str, found: Vec<Found>, expected: usize| {
                assert_eq!(
                    found.first().and_then(|found| found.lsn),
                    Some(expected as u64),
                    "{what} {lsn}: {found:?}"
                );
            };
            let flip = |at: usize| {
                with(&|lines: &mut Vec<String>| {
                    lines[lsn] = rewritten(&lines[lsn], |bytes| bytes[at] ^= 1);
                })
            };
            // Kind, LSN, time, id, key, and what the chain hangs on.
            for at in [1, 11, 19, 25, 40] {
                named(&format!("flip {at}"), flip(at), lsn);
            }
            let length = bytes(&desk.lines[lsn]).len();
            named("flip previous", flip(length - 1), lsn);
            named("drop", with(&|lines| drop(lines.remove(lsn))), lsn);
            named("garble", with(&|lines| lines[lsn] = "{}".to_owned()), lsn);
            named(
                "word",
                with(&|lines| lines[lsn] = lines[lsn].replacen("\"amount\":\"", "\"amount\":\"9", 1)),
                lsn,
            );
            named("cut off", with(&|lines| drop(lines.drain(lsn..9))), lsn);
            let twice = with(&|lines| lines.insert(lsn, lines[lsn].clone()));
            named("insert", twice, lsn);
            if lsn < 8 {
                named("swap", with(&|lines| lines.swap(lsn, lsn + 1)), lsn);
            }
        }
        // Cut off together with its head, and the first line made to fit: nobody can tell from the file
        // alone, and so heads are kept elsewhere too.
        let cut = with(&|lines| {
            lines.drain(7..9);
            lines.pop();
            lines[0] = lines[0].replace("\"last_lsn\":8", "\"last_lsn\":6");
        });
        assert_eq!(cut, []);
    }

    #[test]
    fn heads_must_be_signed_and_of_this_store() {
        let desk = Desk::new();
        let stranger = Desk { key: SigningKey::from_bytes(&[6; 32]), ..Desk::new() };
        let found = stranger.verify(&desk.lines);
        assert_eq!(found.iter().filter_map(|found| found.lsn).collect::<Vec<_>>(), [6, 8]);
        let mut lines = desk.lines.clone();
        lines[0] = lines[0].replace("abab", "cdcd");
        assert!(desk.verify(&lines)[0].problem.contains("another store"));
    }
}
