//! How fast are jobs added, and are they all there?

mod common;
mod measure;

use common::{Args, race};

fn main() {
    let args: Args = clap::Parser::parse();
    race::table(
        &args,
        &[100, 10_000, 100_000, 1_000_000],
        "add: one-shot closures, hours away; the floor is sent a u32 each",
        measure::add::contenders(&common::runtime()),
    );
}
