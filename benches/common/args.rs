//! What the command line asked for.

use std::num::ParseIntError;

use clap::Parser;

/// Measures beside a bare floor. Without `--bench`, which `cargo bench` passes and `cargo test` does
/// not, a tiny size is run once.
#[derive(Parser)]
pub(crate) struct Args {
    /// How many jobs, or fires a second; several sizes are measured one after the other.
    #[arg(value_parser = number)]
    sizes: Vec<usize>,
    /// How often each size is measured.
    #[arg(long)]
    rounds: Option<usize>,
    /// Measures only those whose name has this in it, which is good for a profiler.
    #[arg(long, value_name = "WORD", default_value = "")]
    only: String,
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// Whether it is only to be seen that it works.
    pub(crate) fn test(&self) -> bool {
        !self.bench && self.sizes.is_empty()
    }

    pub(crate) fn sizes(&self, default: &[usize]) -> Vec<usize> {
        match self.sizes.as_slice() {
            [] if self.test() => vec![10],
            [] => default.to_vec(),
            sizes => sizes.to_vec(),
        }
    }

    /// Whether what goes by this name is to be measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    /// How often each size is measured.
    pub(crate) fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(if self.test() { 1 } else { default })
    }
}

fn number(text: &str) -> Result<usize, ParseIntError> {
    text.replace('_', "").parse()
}
