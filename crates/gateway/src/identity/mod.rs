//! Who signs requests, apart from who pays for them: an input to policy, never money (`specs/identity.md`).

mod directories;

pub(crate) use directories::Directories;
