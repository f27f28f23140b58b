//! Credentials that one thread has verified, by their whole text: showing one again costs a look (PERF-24).
//!
//! Only successes are kept, and only what stays true: clock, revocation and the request itself are looked at each time.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use ledger::IdHashes;
use zeroize::Zeroizing;

use crate::keys::Masters;

/// Credentials remembered per thread, of each kind.
const REMEMBERED_MAX: usize = 4096;

/// What came out of verifying, as long as the keys are those that it was verified with.
pub(crate) struct Remembered<T>(RefCell<Shelf<T>>);

struct Shelf<T> {
    /// Held, so that no other keys can have its address.
    masters: Option<Arc<Masters>>,
    known: HashMap<Text, Rc<T>, IdHashes>,
}

/// A credential as it was shown: wiped when it is forgotten.
#[derive(PartialEq, Eq)]
struct Text(Zeroizing<String>);

/// As what it is looked up by.
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(RefCell::new(Shelf { masters: None, known: HashMap::default() }))
    }
}

impl<T> Remembered<T> {
    pub(crate) fn get(&self, masters: &Arc<Masters>, text: &str) -> Option<Rc<T>> {
        let shelf = self.0.borrow();
        let current = shelf.masters.as_ref().is_some_and(|known| Arc::ptr_eq(known, masters));
        current.then(|| shelf.known.get(text).map(Rc::clone)).flatten()
    }

    pub(crate) fn keep(&self, masters: &Arc<Masters>, text: &str, verified: &Rc<T>) {
        let mut shelf = self.0.borrow_mut();
        let current = shelf.masters.as_ref().is_some_and(|known| Arc::ptr_eq(known, masters));
        if !current {
            shelf.masters = Some(Arc::clone(masters));
        }
        if !current || shelf.known.len() >= REMEMBERED_MAX {
            shelf.known.clear();
        }
        shelf.known.insert(Text(Zeroizing::new(text.to_owned())), Rc::clone(verified));
    }
}
