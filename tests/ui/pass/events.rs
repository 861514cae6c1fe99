//! A method marked `#[on]` receives an event and is not called by name.

use actor_core::{Ctx, Entity, Event, Handlers, On, Result, codec::Codec, handlers};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "orders", key = cart)]
pub struct OrderPlaced {
    pub cart: u64,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "shop/gone", key = 0, name = "gone-away")]
pub struct Gone(String);

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "noise")]
pub enum Noise {
    Loud,
}

#[derive(Entity, Default)]
pub struct Cart;

#[handlers]
impl Cart {
    /// Empties the basket.
    #[on]
    fn ordered(&mut self, _: OrderPlaced) {}

    #[on]
    async fn gone(&mut self, ctx: &mut Ctx<Self>, gone: Gone) -> Result<()> {
        let _ = (ctx, gone);
        Ok(())
    }

    #[on]
    fn heard(&mut self, mut _noise: self::Noise, _: &mut Ctx<Self>) {
        _noise = Noise::Loud;
    }

    pub fn clear(&mut self) {}
}

fn receives<E: Event>()
where
    Cart: On<E>,
{
}

fn main() {
    receives::<OrderPlaced>();
    receives::<Gone>();
    let names: Vec<_> = Cart::METHODS
        .iter()
        .map(|method| (method.name, method.callable))
        .collect();
    let events: Vec<_> = Cart::EVENTS
        .iter()
        .map(|event| (event.event, event.method))
        .collect();

    assert_eq!(
        names,
        [
            ("on:order-placed", false),
            ("on:gone", false),
            ("on:noise", false),
            ("clear", true)
        ]
    );
    assert_eq!(
        events,
        [("order-placed", 0), ("gone-away", 1), ("noise", 2)]
    );
    assert_eq!(
        (OrderPlaced::NAME, OrderPlaced::TOPIC),
        ("order-placed", "orders")
    );
    assert_eq!(OrderPlaced { cart: 7 }.key().as_deref(), Some("7"));
    assert_eq!(Gone("a".into()).key().as_deref(), Some("a"));
    assert_eq!(Noise::Loud.key(), None);

    // An event is sent as itself.
    let args = Cart::decode_args(0, Codec::Json, br#"{"cart":7}"#).expect("decodes");
    assert_eq!(
        Cart::encode_args(&args, Codec::Json),
        Ok(br#"{"cart":7}"#.to_vec())
    );
}
