//! The layers of ARCHITECTURE.md: a module uses the modules below it, and none above.
//!
//! Each path in `src/` that begins with `crate`, `super` or `self` is read as text, without
//! comments and tests, and compared with the order here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The layers from the bottom. The modules of one layer may use each other.
const LAYERS: &[&[&str]] = &[
    // Base: each uses those before it.
    &["escape"],
    &["error"],
    &["json"],
    &["panic"],
    &["clock"],
    &["zone"],
    &["id"],
    &["outcome"],
    &["trigger"],
    &["retry"],
    &["job"],
    &["ledger"],
    &["event"],
    &["feed"],
    &["metrics"],
    // Stores use the ledger, never the machine.
    &["store"],
    // The machine: decisions and the steps of the loop.
    &["core"],
    // The shell carries out the machine's decisions.
    &["driver", "executor", "task"],
    // The API of users.
    &["scheduler"],
    // The test kit of users.
    &["testing", "prelude"],
];

/// Pairs that must not use each other although their layers would allow it: the first uses no part
/// of the second.
const APART: &[(&str, &str)] = &[
    ("core", "store"),
    ("store::cell", "store::memory"),
    ("store::cell", "store::sql"),
    ("store::memory", "store::sql"),
    ("store::sql", "store::cell"),
    ("store::sql", "store::memory"),
];

/// The machine neither waits nor reads a clock nor draws a random number.
const NOT_IN_THE_MACHINE: &[&str] =
    &["tokio::", "async ", "Utc::now", "Instant::now", "rand::", "std::thread"];

#[test]
fn every_module_has_its_layer() {
    let known: BTreeSet<&str> = LAYERS.iter().copied().flatten().copied().collect();
    let mut modules = BTreeSet::new();
    for entry in fs::read_dir(src()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name != "lib" {
            modules.insert(name);
        }
    }
    let missing: Vec<_> = modules.iter().filter(|name| !known.contains(&***name)).collect();
    assert!(missing.is_empty(), "these modules have no place in LAYERS: {missing:?}");
    let gone: Vec<_> = known.iter().filter(|name| !modules.contains(**name)).collect();
    assert!(gone.is_empty(), "LAYERS names modules that there are not: {gone:?}");
}

#[test]
fn arrows_point_down() {
    let mut upward = Vec::new();
    for Import { file, from, to } in imports() {
        let (Some(from_layer), Some(to_layer)) = (layer(&from[0]), layer(&to[0])) else { continue };
        if to_layer > from_layer {
            upward.push(format!("{file}: {} knows {}", from[0], to.join("::")));
        }
    }
    assert!(upward.is_empty(), "these arrows point up:\n{}", upward.join("\n"));
}

#[test]
fn neighbours_that_are_apart_stay_apart() {
    let mut wrong = Vec::new();
    for Import { file, from, to } in imports() {
        for (one, other) in APART {
            if is_in(&from, one) && is_in(&to, other) {
                wrong.push(format!("{file}: {one} knows {}", to.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "these must not know each other:\n{}", wrong.join("\n"));
}

#[test]
fn the_machine_neither_waits_nor_reads_clocks() {
    let mut wrong = Vec::new();
    for (file, text) in sources().into_iter().filter(|(file, _)| file.starts_with("core/")) {
        for word in NOT_IN_THE_MACHINE.iter().filter(|word| text.contains(**word)) {
            wrong.push(format!("{file}: {word}"));
        }
    }
    assert!(wrong.is_empty(), "this belongs to the shell:\n{}", wrong.join("\n"));
}

#[test]
fn a_path_is_resolved_from_where_it_stands() {
    let text = "use super::{a::{B, self}, c};\nuse crate::{d::E, f};\nself::g::h();";
    let found = paths("x/y/z.rs", text);
    let found: Vec<String> = found.into_iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["x::y::a::B", "x::y::a::self", "x::y::c", "d::E", "f", "x::y::z::g::h"]);
    assert_eq!(module("x/y/mod.rs"), ["x", "y"]);
}

struct Import {
    file: String,
    from: Vec<String>,
    to: Vec<String>,
}

/// Returns the imports of this crate in the sources, except for items of the crate's root.
fn imports() -> Vec<Import> {
    let mut imports = Vec::new();
    for (file, text) in sources() {
        let from = module(&file);
        for to in paths(&file, &text) {
            let is_module = to.first().is_some_and(|first| first.starts_with(char::is_lowercase));
            if is_module && !from.is_empty() {
                imports.push(Import { file: file.clone(), from: from.clone(), to });
            }
        }
    }
    assert!(imports.len() > 1000, "only {} imports were found", imports.len());
    imports
}

/// The sources by their paths in `src/`, without comments and tests.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = path.strip_prefix(src()).unwrap().to_str().unwrap().replace('\\', "/");
            let is_test =
                file.split('/').any(|part| part.trim_end_matches(".rs").ends_with("tests"));
            if file.ends_with(".rs") && !is_test {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let code = text.lines().map(|line| line.split("//").next().unwrap());
                sources.push((file, code.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    sources.sort();
    sources
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the module of a file: `a/b.rs` is `a::b`, and so is `a/b/mod.rs`.
fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
}

/// Returns the paths of this crate in a text, each from the root, with the members of braces one by
/// one.
fn paths(file: &str, text: &str) -> Vec<Vec<String>> {
    let here = module(file);
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) =
        ["crate::", "super::", "self::"].iter().filter_map(|it| rest.find(it)).min()
    {
        let is_start = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || "_:$".contains(c));
        rest = &rest[at..];
        if is_start {
            let mut base = here.clone();
            let mut path = rest;
            if let Some(behind) = path.strip_prefix("crate::") {
                (base, path) = (Vec::new(), behind);
            } else if let Some(behind) = path.strip_prefix("self::") {
                path = behind;
            }
            while let Some(behind) = path.strip_prefix("super::") {
                base.pop();
                path = behind;
            }
            let left = tree(path, &base, &mut found);
            rest = left;
        } else {
            rest = &rest[5..];
        }
    }
    found
}

/// Reads a tree of names, adds its paths, and returns the text behind it.
fn tree<'a>(text: &'a str, base: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(behind) = rest.strip_prefix('}') {
                return behind;
            }
            let before = rest.len();
            rest = tree(rest, base, found).trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest);
            if rest.len() == before {
                // Not a name, so the rest is no tree.
                return &rest[1.min(rest.len())..];
            }
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let mut path = base.to_vec();
    path.push(name.to_owned());
    match rest.strip_prefix("::") {
        Some(behind) if behind.starts_with(|c: char| c.is_alphanumeric() || "_{".contains(c)) => {
            tree(behind, &path, found)
        }
        _ => {
            found.push(path);
            let rest = rest.trim_start();
            match rest.strip_prefix("as ") {
                Some(alias) => {
                    alias.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
                }
                None => rest,
            }
        }
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn is_in(path: &[String], module: &str) -> bool {
    let parts: Vec<&str> = module.split("::").collect();
    path.len() >= parts.len() && parts.iter().zip(path).all(|(part, name)| part == name)
}
