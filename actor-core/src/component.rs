//! What a node can host: kinds, and the registry that knows them by name and by type.
//!
//! Not here: running them (`hosting.rs`).

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    sync::Arc,
};

use crate::{hosting::Hosted, store::kinds::KindRow};

/// A type, or a tuple of types, that a node can host.
pub trait Component {
    /// Adds itself to the registry.
    fn install(registry: &mut Registry);
}

/// The kinds a node hosts.
#[derive(Default)]
pub struct Registry {
    pub(crate) kinds: BTreeMap<&'static str, Arc<dyn Hosted>>,
    pub(crate) types: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
    pub(crate) clashes: Vec<&'static str>,
}

impl Registry {
    /// Adds a kind: how it is hosted, found by name, and the same thing found by the user's type.
    pub fn add<T: 'static>(&mut self, hosted: Arc<impl Hosted + Any>) {
        let kind = hosted.kind();
        if self
            .types
            .insert(TypeId::of::<T>(), hosted.clone())
            .is_some()
        {
            return; // The same type twice is harmless.
        }
        if self.kinds.insert(kind, hosted).is_some() {
            self.clashes.push(kind);
        }
    }

    /// Refuses two types of one name.
    ///
    /// # Errors
    /// When two types claim one kind name.
    pub fn check(&self) -> crate::Result<()> {
        let Some(kind) = self.clashes.first() else {
            return Ok(());
        };
        let text = format!("two types claim the kind `{kind}`: name one `#[entity(kind = …)]`");
        Err(crate::Failure::fatal("kind_clash", text))
    }

    /// Returns what is to be recorded of the kinds, in the order of their names.
    pub fn rows(&self) -> Vec<KindRow> {
        let row = |hosted: &Arc<dyn Hosted>| KindRow {
            kind: hosted.kind().into(),
            group: hosted.group().into(),
            role: hosted.role(),
            exposed: hosted.exposed(),
            receives: hosted.events().iter().map(|it| it.event.into()).collect(),
        };
        self.kinds.values().map(row).collect()
    }

    /// Returns the names of all kinds in order.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.kinds.keys().copied()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds()).finish()
    }
}

impl Component for () {
    fn install(_: &mut Registry) {}
}

macro_rules! tuples {
    ($head:ident $($tail:ident)*) => {
        impl<$head: Component, $($tail: Component),*> Component for ($head, $($tail,)*) {
            fn install(registry: &mut Registry) {
                $head::install(registry);
                $($tail::install(registry);)*
            }
        }
        tuples!($($tail)*);
    };
    () => {};
}
tuples!(A B C D E F G H I J K L M N O P);
