//! How fast are jobs run that are all due at one instant, and are all of them run?

mod common;
mod measure;

use common::{Args, race};

fn main() {
    let args: Args = clap::Parser::parse();
    race::table(
        &args,
        &[100, 10_000, 100_000, 1_000_000],
        "drain: jobs due at one instant, until the last has run; the floor spawns a task for each",
        measure::drain::contenders(&common::runtime()),
    );
}
