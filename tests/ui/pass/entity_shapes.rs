//! A struct or an enum of any visibility, in any place, can be an entity.

use actor_core::{Entity, handlers};

#[derive(Entity, Default)]
pub struct Public {
    pub total: u32,
}

#[handlers]
impl Public {
    pub fn total(&self) -> u32 {
        self.total
    }
}

#[derive(Entity, Default)]
enum Private {
    #[default]
    Open,
}

#[handlers]
impl Private {
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}

mod shop {
    #[derive(super::Entity, Default)]
    pub(crate) struct Near(());
}

#[handlers]
impl shop::Near {
    pub fn ping(&self) {}
}

macro_rules! entity {
    ($name:ident, $value:ty) => {
        #[derive(Entity, Default)]
        struct $name;

        #[handlers]
        impl $name {
            pub fn echo(&self, value: $value, times: u8) -> Result<Vec<$value>, String> {
                Ok(vec![value; usize::from(times)])
            }
        }
    };
}
entity!(FromMacro, Option<u8>);

fn calls(public: &PublicRef, private: &PrivateRef, near: &shop::NearRef, made: &FromMacroRef) {
    drop(public.total());
    drop(private.is_open());
    drop(near.ping());
    drop(made.echo(None, 2));
}

fn main() {
    #[derive(Entity, Default)]
    struct Local;

    #[handlers]
    impl Local {
        pub fn ping(&self) {}
    }

    let _ = calls;
    let _ = |local: LocalRef| drop(local.clone().ping());
}
