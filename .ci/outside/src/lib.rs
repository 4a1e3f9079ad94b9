//! What a user's crate has of `punctual`.

use punctual::{Context, Task};
use serde::{Deserialize, Serialize};

/// Says hello.
#[derive(Serialize, Deserialize)]
pub struct Hello {
    pub name: String,
}

impl Task for Hello {
    const NAME: &'static str = "hello";
    type Output = ();

    async fn run(self, _: Context) {
        println!("hello {}", self.name);
    }
}
