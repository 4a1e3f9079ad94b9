//! JSON documents of users and stores: how long and how deep they may be, and one way to write each.
//!
//! Each is read in one pass, without recursion: no document can exhaust the stack.

use std::fmt;

use crate::error::Error;

/// The most bytes of a document that a store is given: a job's arguments, its trigger, its options.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// The most levels of lists and objects within each other. Readers of typed values, which call
/// themselves for each level, accept no more.
pub(crate) const MAX_DEPTH: usize = 127;

/// Checks that a document is neither too long for a store nor too deep; `what` names it in the error.
pub(crate) fn check(what: impl fmt::Display, json: &str) -> Result<(), Error> {
    if json.len() > MAX_BYTES {
        return Err(Error::invalid_task(format!(
            "{what}: {} bytes of JSON are more than the {MAX_BYTES} that a store is given: keep what is long elsewhere, and give the job its key",
            json.len()
        )));
    }
    check_depth(what, json)
}

/// Checks that a document is not too deep, however long it is.
pub(crate) fn check_depth(what: impl fmt::Display, json: &str) -> Result<(), Error> {
    let depth = depth(json);
    if depth > MAX_DEPTH {
        return Err(Error::invalid_task(format!(
            "{what}: JSON that nests {depth} levels is deeper than the {MAX_DEPTH} that can be read back: nest less, or give what is inside as text"
        )));
    }
    Ok(())
}

/// How many levels of lists and objects there are within each other.
fn depth(json: &str) -> usize {
    let bytes = json.as_bytes();
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at) - 1,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// The same document with the keys of each object in order and without space between its parts, so
/// that equal documents are equal texts. Of a key that is there several times the last counts.
pub(crate) fn canonical(json: &str) -> String {
    let bytes = json.as_bytes();
    let mut out = String::with_capacity(json.len());
    let mut open: Vec<Option<Members>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let begin = at;
        at += 1;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'{' => open.push(Some(Members { begin: out.len() + 1, keys: Vec::new() })),
            b'[' => open.push(None),
            b'}' | b']' => {
                if let Some(Some(members)) = open.pop() {
                    members.sort(&mut out);
                }
            }
            b'"' => {
                at = string_end(bytes, begin);
                if let Some(Some(members)) = open.last_mut()
                    && members.expects_key(&out)
                    && let Ok(key) = serde_json::from_str::<String>(&json[begin..at])
                {
                    let written = serde_json::Value::from(key.as_str()).to_string();
                    members.keys.push((key, out.len()));
                    out.push_str(&written);
                    continue;
                }
            }
            b',' | b':' => {}
            _ => {
                let rest = &bytes[begin..];
                let ends = |byte: &u8| {
                    matches!(byte, b',' | b':' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r')
                };
                at = begin + rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        out.push_str(&json[begin..at]);
    }
    out
}

/// The members of an object that is being written.
struct Members {
    /// Where the first begins in the text.
    begin: usize,
    /// Their keys, and where each member begins.
    keys: Vec<(String, usize)>,
}

impl Members {
    /// Whether a string that comes next is a key.
    fn expects_key(&self, out: &str) -> bool {
        out.len() == self.begin || out.ends_with(',')
    }

    /// Brings the members, which are the end of the text, into the order of their keys.
    fn sort(self, out: &mut String) {
        if self.keys.is_sorted_by(|(a, _), (b, _)| a < b) {
            return;
        }
        let ends = self.keys.iter().skip(1).map(|(_, begin)| begin - 1).chain([out.len()]);
        let mut members: Vec<_> =
            self.keys.iter().zip(ends).map(|((key, begin), end)| (key, *begin..end)).collect();
        // Stable, so that the last of equal keys is the last here.
        members.sort_by_key(|(key, _)| *key);
        let mut sorted = String::with_capacity(out.len() - self.begin);
        for (index, (key, range)) in members.iter().enumerate() {
            if members.get(index + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            if !sorted.is_empty() {
                sorted.push(',');
            }
            sorted.push_str(&out[range.clone()]);
        }
        out.truncate(self.begin);
        out.push_str(&sorted);
    }
}

/// The end of the string that begins with the quotation mark at `begin`.
fn string_end(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A duration as whole milliseconds, rounded up, so that only zero becomes zero.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        to.serialize_u64(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// The same for a duration that may be absent.
pub(crate) mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::millis;

    #[derive(Serialize, Deserialize)]
    struct Millis(#[serde(with = "millis")] Duration);

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(Millis).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Millis>::deserialize(from)?.map(|millis| millis.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_documents_have_one_canonical_text() {
        let cases = [
            (
                r#" { "b" : [1, 2.50 , {"z":null,"y":"a, \"b\" : ]"}], "a": -1e3 } "#,
                r#"{"a":-1e3,"b":[1,2.50,{"y":"a, \"b\" : ]","z":null}]}"#,
            ),
            (r#"{"a":1,"\u0061":2,"a":3}"#, r#"{"a":3}"#),
            (r#"{"c":{"b":1,"a":[]},"b":{},"a":[ ]}"#, r#"{"a":[],"b":{},"c":{"a":[],"b":1}}"#),
            (r#"{"b\"":"\\","a":"{"}"#, r#"{"a":"{","b\"":"\\"}"#),
            ("[ ]", "[]"),
            ("{ }", "{}"),
            (" \"a b\" ", "\"a b\""),
            (" true ", "true"),
        ];
        for (json, text) in cases {
            assert_eq!(canonical(json), text);
            assert_eq!(canonical(text), text);
        }
    }

    #[test]
    fn texts_that_are_no_documents_are_kept_from_panicking() {
        for json in
            ["", "\"", "\"\\", "{", "}", "[}", "{\"", "{\"a", ",", "{,}", "ä", "{\"a\":\"ä\\\""]
        {
            let _ = (canonical(json), depth(json));
        }
    }

    #[test]
    fn deep_and_long_documents_take_no_stack_and_linear_time() {
        let levels = 1_000_000;
        let json = "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(canonical(&json), json);
        assert_eq!(depth(&json), levels);
        let json = format!("[{}0]", "{\"b\":1,\"a\":[]},".repeat(100_000));
        assert_eq!(canonical(&json).len(), json.len());
    }

    #[test]
    fn bounds_are_inclusive() {
        let deep = |levels| "[".repeat(levels) + &"]".repeat(levels);
        assert!(check("the arguments", &deep(MAX_DEPTH)).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(&deep(MAX_DEPTH)).is_ok());
        let error = check("the arguments", &deep(MAX_DEPTH + 1)).unwrap_err().to_string();
        assert!(error.contains("nests 128 levels"), "{error}");
        let long = |bytes| format!("\"{}\"", "x".repeat(bytes - 2));
        assert!(check("the arguments", &long(MAX_BYTES)).is_ok());
        let error = check("the arguments", &long(MAX_BYTES + 1)).unwrap_err().to_string();
        assert!(error.contains("1048577 bytes"), "{error}");
        assert!(check("the arguments", "\"[[[\"").is_ok());
    }
}
