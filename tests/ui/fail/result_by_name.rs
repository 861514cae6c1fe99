//! A type that is named `Result` and is none is an error at its name.

use actor_core::{Entity, handlers};

mod exam {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Result(pub u8);
}

#[derive(Entity, Default)]
struct Student;

#[handlers]
impl Student {
    pub fn exam(&self) -> exam::Result {
        exam::Result(1)
    }
}

fn main() {}
