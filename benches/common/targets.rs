//! Figures beside what they are to be, in Markdown and as JSON.

use std::{collections::BTreeMap, fmt, process::Command};

use chrono::Utc;
use serde::{Serialize, Serializer};

use super::figures::{grouped, short};

/// What was measured, where and when.
#[derive(Serialize)]
pub(crate) struct Report {
    version: &'static str,
    date: String,
    machine: Machine,
    rows: Vec<Row>,
}

/// What the figures depend on besides.
#[derive(Serialize)]
struct Machine {
    system: String,
    cpu: Option<String>,
    cores: Option<usize>,
    rustc: Option<String>,
}

/// A figure of ours, beside the floor's.
#[derive(Serialize)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    punctual: f64,
    floor: f64,
    /// Ours to the floor's, if that is not zero.
    ratio: Option<f64>,
    target: Option<Target>,
    met: Option<bool>,
    /// What a job costs up to each size, where the figure is how far these lie apart.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    cpu_ns_per_job: BTreeMap<usize, f64>,
}

/// What a figure is to be: a bound, or one that is so many times the floor's.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    TimesFloorAtLeast(f64),
    TimesFloorAtMost(f64),
}

impl Report {
    pub(crate) fn new(rows: Vec<Row>) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            date: Utc::now().format("%F").to_string(),
            machine: Machine::this(),
            rows,
        }
    }
}

impl Machine {
    fn this() -> Machine {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").ok();
        Machine {
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cpu: cpus.and_then(|cpus| {
                let name = cpus.lines().find_map(|line| line.strip_prefix("model name"))?;
                Some(name.trim_start_matches([' ', '\t', ':']).to_owned())
            }),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            rustc: rustc(),
        }
    }
}

/// The version of the compiler.
pub(crate) fn rustc() -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

impl Row {
    pub(crate) fn new(
        what: impl Into<String>,
        unit: &'static str,
        punctual: f64,
        floor: f64,
    ) -> Row {
        Row {
            what: what.into(),
            unit,
            punctual,
            floor,
            ratio: (floor != 0.0).then_some(punctual / floor),
            target: None,
            met: None,
            cpu_ns_per_job: BTreeMap::new(),
        }
    }

    /// How far the costs of a job at several sizes lie apart.
    pub(crate) fn spread(
        what: impl Into<String>,
        punctual: BTreeMap<usize, f64>,
        floor: impl IntoIterator<Item = f64>,
    ) -> Row {
        let row =
            Row::new(what, "× between sizes", spread(punctual.values().copied()), spread(floor));
        Row { cpu_ns_per_job: punctual, ..row }
    }

    pub(crate) fn target(self, target: Target) -> Row {
        let times = self.ratio.unwrap_or(f64::INFINITY);
        let met = match target {
            Target::AtLeast(bound) => self.punctual >= bound,
            Target::AtMost(bound) => self.punctual <= bound,
            Target::TimesFloorAtLeast(bound) => times >= bound,
            Target::TimesFloorAtMost(bound) => times <= bound,
        };
        Row { target: Some(target), met: Some(met), ..self }
    }
}

fn spread(costs: impl IntoIterator<Item = f64>) -> f64 {
    let (least, most) = costs
        .into_iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), cost| (least.min(cost), most.max(cost)));
    most / least
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { system, cpu, cores, rustc } = &self.machine;
        let cpu = cpu.as_deref().unwrap_or("unknown CPU");
        let cores = cores.map_or("?".into(), |cores| cores.to_string());
        let rustc = rustc.as_deref().unwrap_or("unknown compiler");
        writeln!(
            f,
            "punctual {}, {}, {cores} × {cpu}, {system}, {rustc}",
            self.version, self.date
        )?;
        writeln!(f, "\n| | punctual | floor | ratio | target | |\n|---|--:|--:|--:|--:|---|")?;
        self.rows.iter().try_for_each(|row| write!(f, "{row}"))?;
        let costs = || self.rows.iter().filter(|row| !row.cpu_ns_per_job.is_empty());
        let Some(first) = costs().next() else { return Ok(()) };
        write!(f, "\n| ns, up to so many jobs |")?;
        first.cpu_ns_per_job.keys().try_for_each(|&size| write!(f, " {} |", grouped(size)))?;
        writeln!(f, "\n|---|{}", "--:|".repeat(first.cpu_ns_per_job.len()))?;
        for row in costs() {
            write!(f, "| {} |", row.what)?;
            row.cpu_ns_per_job.values().try_for_each(|&cost| write!(f, " {} |", short(cost)))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_unit = |figure| format!("{} {}", short(figure), self.unit);
        let target = match self.target {
            None => String::new(),
            Some(Target::AtLeast(bound)) => format!("≥ {}", with_unit(bound)),
            Some(Target::AtMost(bound)) => format!("≤ {}", with_unit(bound)),
            Some(target) => target.to_string(),
        };
        let met = match self.met {
            None => "",
            Some(true) => "met",
            Some(false) => "**not met**",
        };
        writeln!(
            f,
            "| {} | {} | {} | {} | {target} | {met} |",
            self.what,
            with_unit(self.punctual),
            with_unit(self.floor),
            self.ratio.map_or("–".into(), short),
        )
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::AtLeast(bound) => write!(f, "≥ {}", short(*bound)),
            Target::AtMost(bound) => write!(f, "≤ {}", short(*bound)),
            Target::TimesFloorAtLeast(bound) => write!(f, "≥ {bound} × the floor"),
            Target::TimesFloorAtMost(bound) => write!(f, "≤ {bound} × the floor"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
