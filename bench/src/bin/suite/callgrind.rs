//! The gateway under callgrind, and what its dumps say: how many instructions each line of source took, by the function that it
//! stands in after all inlining.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether valgrind is there: of the system, or first in the `PATH` that `cargo xtask bench` has made.
pub(crate) fn is_there() -> Result<(), String> {
    let ran = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match ran {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => Err("valgrind is not installed".to_owned()),
    }
}

/// Dumps of one process.
pub(crate) struct Callgrind {
    dumps: PathBuf,
    /// So many have been made.
    parts: u32,
}

impl Callgrind {
    /// Dumps go to this folder, which is empty.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { dumps: folder.join("dump"), parts: 0 }
    }

    /// What stands before the program that is profiled.
    pub(crate) fn before(&self) -> Vec<String> {
        let dumps = format!("--callgrind-out-file={}", self.dumps.display());
        let options = ["--tool=callgrind", "--separate-threads=yes", "--collect-systime=yes"];
        ["valgrind"].iter().chain(&options).map(|word| (*word).to_owned()).chain([dumps]).collect()
    }

    /// What each thread of this process did since the last dump; counting begins anew.
    pub(crate) fn dump(&mut self, process: u32) -> Result<Vec<Costs>, String> {
        let mut dump = Command::new("vgdb");
        dump.arg(format!("--pid={process}")).arg("dump").stdin(Stdio::null());
        let output = dump.output().map_err(|error| format!("vgdb: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("vgdb: {}", said.lines().last().unwrap_or_default()));
        }
        self.parts += 1;
        let file =
            |thread: u32| PathBuf::from(format!("{}.{}-{thread:02}", self.dumps.display(), self.parts));
        let threads: Vec<_> =
            (1..).map(file).map_while(|path| path.exists().then(|| read(&path))).collect::<Result<_, _>>()?;
        if threads.is_empty() { Err("callgrind has dumped nothing".to_owned()) } else { Ok(threads) }
    }
}

fn read(path: &Path) -> Result<Costs, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(costs(&String::from_utf8_lossy(&bytes)))
}

/// Where instructions are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The source that they were made of; `???` where nobody knows.
    pub(crate) file: String,
    /// The function whose code they are in, with what was inlined into it.
    pub(crate) function: String,
}

/// What a place took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) instructions: u64,
    pub(crate) kernel_calls: u64,
}

/// What one thread did, without what it called: that stands where it is.
pub(crate) type Costs = BTreeMap<Place, Cost>;

/// Reads a dump in callgrind's format.
fn costs(dump: &str) -> Costs {
    let mut names = Names::default();
    let (mut file, mut own_file, mut function) = (String::new(), String::new(), String::new());
    let mut events: Vec<&str> = Vec::new();
    let mut costs = Costs::new();
    let mut lines = dump.lines();
    while let Some(line) = lines.next() {
        if let Some(named) = line.strip_prefix("events: ") {
            events = named.split(' ').collect();
        } else if let Some((key, value)) = line.split_once('=') {
            match key {
                "fl" => {
                    own_file = names.files.full(value);
                    file.clone_from(&own_file);
                }
                // Another file within a function, and back.
                "fi" | "fe" => file = names.files.full(value),
                "fn" => {
                    function = names.functions.full(value);
                    file.clone_from(&own_file);
                }
                "cfi" | "cfl" => drop(names.files.full(value)),
                "cfn" => drop(names.functions.full(value)),
                // What is called has its cost in the line that follows, and in its own place.
                "calls" => drop(lines.next()),
                _ => {}
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let figures: Vec<u64> =
                line.split(' ').skip(1).map(|figure| figure.parse().unwrap_or(0)).collect();
            let of = |event| {
                let place = events.iter().position(|name| *name == event);
                place.and_then(|place| figures.get(place)).copied().unwrap_or(0)
            };
            let place = Place { file: file.clone(), function: function.clone() };
            let cost = costs.entry(place).or_default();
            cost.instructions += of("Ir");
            cost.kernel_calls += of("sysCount");
        }
    }
    costs
}

/// Names are written out once: `(7) name`, then `(7)`.
#[derive(Default)]
struct Names {
    files: Table,
    functions: Table,
}

#[derive(Default)]
struct Table(BTreeMap<String, String>);

impl Table {
    fn full(&mut self, value: &str) -> String {
        let (number, name) = value.split_once(' ').unwrap_or((value, ""));
        if !number.starts_with('(') {
            return value.to_owned();
        }
        if !name.is_empty() {
            self.0.insert(number.to_owned(), name.to_owned());
        }
        self.0.get(number).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, Place, costs};

    #[test]
    fn a_dump() {
        let dump = "# callgrind format\nevents: Ir sysCount sysTime\nsummary: 60 2 9\n\nob=(1) /bin/farthing\n\
            fl=(1) crates/gateway/src/call.rs\nfn=(1) gateway::call::answer\n10 5\n+2 7\n\
            fi=(2) /rustc/library/core/src/option.rs\n90 11\nfe=(1)\n12 1\n\
            cob=(2) libc.so\ncfi=(3) write.c\ncfn=(2) write\ncalls=3 26\n12 30 2 9\n\
            fn=(3) gateway::call::other\n20 2\n\nob=(2)\nfl=(3)\nfn=(2)\n26 30 2 9\n";
        let place =
            |file: &str, function: &str| Place { file: file.to_owned(), function: function.to_owned() };
        let cost = |instructions, kernel_calls| Cost { instructions, kernel_calls };
        let expected = [
            (place("/rustc/library/core/src/option.rs", "gateway::call::answer"), cost(11, 0)),
            (place("crates/gateway/src/call.rs", "gateway::call::answer"), cost(13, 0)),
            (place("crates/gateway/src/call.rs", "gateway::call::other"), cost(2, 0)),
            (place("write.c", "write"), cost(30, 2)),
        ];
        assert_eq!(costs(dump), expected.into());
    }
}
