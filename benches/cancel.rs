//! How fast are jobs cancelled, by their tokens and by their handles?
//!
//! What memory comes back is `memory.rs`'s question.

mod common;
mod measure;

use common::{Args, race};

fn main() {
    let args: Args = clap::Parser::parse();
    race::table(
        &args,
        &[100, 10_000, 100_000, 1_000_000],
        "cancel: jobs hours away; the floor is told to remove each",
        measure::cancel::contenders(&common::runtime()),
    );
}
