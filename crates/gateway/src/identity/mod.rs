//! Who signs requests, apart from who pays for them: an input to policy, never money (`specs/identity.md`).

mod directories;

#[allow(unused_imports, reason = "named by the gate and the fetcher")]
pub(crate) use directories::Directories;
