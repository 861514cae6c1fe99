//! Log lines that must not repeat. Not here: metrics, which are emitted where what they count
//! happens, and are all listed in the guide (a test compares).

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

static SAID: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Runs `say` the first time this process meets `subject`.
pub(crate) fn once(subject: &'static str, say: impl FnOnce()) {
    if SAID
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(subject)
    {
        say();
    }
}
