//! Public methods on `self` are messages; everything else in the block is left as it is.

use actor_core::{Entity, Handlers, handlers};

#[derive(Entity, Default)]
pub struct Cart {
    lines: u32,
}

#[handlers]
impl Cart {
    pub const LINES_MAX: u32 = 3;

    /// Adds a line.
    ///
    /// Over the limit nothing happens.
    pub fn add(&mut self, mut lines: u32) -> u32 {
        lines += self.lines;
        self.lines = lines.min(Self::LINES_MAX);
        self.near()
    }

    #[idempotent]
    pub async fn r#type(&self, r#fn: Option<String>) -> Option<String> {
        r#fn
    }

    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn near(&self) -> u32 {
        *self.borrowed(&self.lines)
    }

    fn borrowed<'a, T>(&self, value: &'a T) -> &'a T {
        value
    }
}

fn main() {
    let [add, read] = Cart::METHODS else {
        panic!("two messages: {:?}", Cart::METHODS)
    };

    assert_eq!((add.name, add.args), ("add", &["lines"][..]));
    assert_eq!(
        (add.writes, add.runs_ahead, add.callable),
        (true, true, true)
    );
    assert_eq!(add.docs, "Adds a line.\n\nOver the limit nothing happens.");
    assert_eq!((read.name, read.args), ("type", &["fn"][..]));
    assert_eq!(
        (read.writes, read.runs_ahead, read.callable),
        (false, false, true)
    );
    assert!(Cart::EVENTS.is_empty());
    assert_eq!(Cart::new().near(), 0);
    let _ = |cart: CartRef| drop((cart.add(1), cart.r#type(None)));
}
