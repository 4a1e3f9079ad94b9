//! What a process prints: handed on line by line, and its end kept for an error.

use std::{
    collections::VecDeque,
    io::{self, PipeReader},
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, net::unix::pipe, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::io::watched;
use crate::{job::JobId, panic::shielded};

/// How much of what was printed last is kept, in bytes.
const TAIL: usize = 4 * 1024;

/// How long a line may be, in bytes, before it is handed on in parts.
const LINE: usize = 8 * 1024;

/// How long is read on after the process has ended: what it printed last may still be on its way, but
/// descendants may hold the pipe for ever.
const LINGER: Duration = Duration::from_millis(200);

/// What a line begins with that says which run the next ones belong to.
const MARK: &str = "\u{1e}punctual run ";

/// What a process prints before a run: the end of a line, and which run of which job it is.
pub(super) fn mark(run: u64, job: &JobId) -> String {
    format!("\n{MARK}{run} of {job}\n")
}

fn marked(line: &str) -> Option<(u64, &str)> {
    let (run, job) = line.strip_prefix(MARK)?.split_once(" of ")?;
    Some((run.parse().ok()?, job))
}

/// The output of a process. Whoever writes waits if it is not read, so a task of its own does that.
#[derive(Debug)]
pub(crate) struct Output {
    /// Becomes the end of what was printed.
    reading: JoinHandle<Tail>,
    /// Says that the process has ended.
    ended: DropGuard,
}

impl Output {
    /// What comes out of a pipe. `heard` is called with each line, after the run and the job that it belongs
    /// to, as far as that was marked.
    pub(crate) fn new(
        reader: PipeReader,
        heard: impl FnMut(u64, Option<&str>, &str) + Send + 'static,
    ) -> io::Result<Output> {
        let mut reader = watched(|| pipe::Receiver::from_owned_fd(reader.into()))?;
        let ended = CancellationToken::new();
        let over = ended.clone();
        let reading = tokio::spawn(async move {
            let mut lines =
                Lines { part: Vec::new(), run: 0, job: None, tail: Tail::default(), heard };
            let read = async {
                let mut buffer = [0; 2048];
                while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                    lines.take(&buffer[..read]);
                }
            };
            let patience = async {
                over.cancelled().await;
                tokio::time::sleep(LINGER).await;
            };
            tokio::select! {
                () = read => {}
                () = patience => {}
            }
            lines.finish();
            lines.tail
        });
        Ok(Output { reading, ended: ended.drop_guard() })
    }

    /// What the run printed last, by a process that has ended.
    pub(crate) async fn tail(self) -> String {
        drop(self.ended);
        // It can't fail but with its runtime, and then nobody asks.
        let Tail(tail) = self.reading.await.unwrap_or_default();
        String::from_utf8_lossy(&Vec::from(tail)).trim().to_owned()
    }
}

/// The last of so many bytes.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn keep(&mut self, line: &str) {
        self.0.extend(line.bytes().chain([b'\n']));
        self.0.drain(..self.0.len().saturating_sub(TAIL));
    }
}

/// Makes lines of what is read in pieces.
struct Lines<F> {
    part: Vec<u8>,
    run: u64,
    job: Option<String>,
    /// Of this run.
    tail: Tail,
    heard: F,
}

impl<F: FnMut(u64, Option<&str>, &str)> Lines<F> {
    fn take(&mut self, printed: &[u8]) {
        for part in printed.split_inclusive(|&byte| byte == b'\n') {
            self.part.extend_from_slice(part);
            if part.ends_with(b"\n") || self.part.len() >= LINE {
                self.finish();
            }
        }
    }

    /// Ends a line.
    fn finish(&mut self) {
        let line = String::from_utf8_lossy(&self.part);
        let line = line.trim_end();
        if let Some((run, job)) = marked(line) {
            (self.run, self.job) = (run, Some(job.to_owned()));
            self.tail = Tail::default();
        } else if !line.is_empty() {
            self.tail.keep(line);
            // A subscriber that panics must not end the reading, which the process needs.
            shielded(|| (self.heard)(self.run, self.job.as_deref(), line));
        }
        self.part.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE, Lines, TAIL, Tail, mark};

    /// What is heard of these pieces, and what is kept.
    fn heard(pieces: &[&[u8]]) -> (Vec<(u64, Option<String>, String)>, String) {
        let mut heard = Vec::new();
        let mut lines = Lines {
            part: Vec::new(),
            run: 0,
            job: None,
            tail: Tail::default(),
            heard: |run, job: Option<&str>, line: &str| {
                heard.push((run, job.map(str::to_owned), line.to_owned()));
            },
        };
        for piece in pieces {
            lines.take(piece);
        }
        lines.finish();
        let tail = String::from_utf8(lines.tail.0.into()).unwrap();
        (heard, tail)
    }

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        heard(pieces).0.into_iter().map(|(_, _, line)| line).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(lines(&[b"on", b"e\r\n\ntwo\nthr", b"ee"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"not \xff text\n"]), ["not \u{fffd} text"]);
    }

    #[test]
    fn a_line_without_an_end_is_handed_on_in_parts() {
        let piece = [b'x'; 1000];
        let heard = lines(&[&piece[..]; 20]);
        assert!(heard.len() > 1 && heard.iter().all(|line| line.len() < LINE + piece.len()));
        assert_eq!(heard.concat().len(), 20_000);
    }

    #[test]
    fn lines_belong_to_the_run_that_was_marked() {
        let (one, other) = (mark(7, &"one".into()), mark(8, &"a\nb of c".into()));
        let (heard, tail) = heard(&[b"early", one.as_bytes(), b"a\nb", other.as_bytes(), b"c"]);
        let expected = [
            (0, None, "early"),
            (7, Some("one"), "a"),
            (7, Some("one"), "b"),
            (8, Some(r"a\nb of c"), "c"),
        ];
        let expected =
            expected.map(|(run, job, line)| (run, job.map(str::to_owned), line.to_owned()));
        assert_eq!(heard, expected);
        assert_eq!(tail, "c\n");
    }

    #[test]
    fn the_tail_is_the_end_of_it() {
        let printed = "0123456789\n".repeat(1000);
        let (_, tail) = heard(&[printed.as_bytes()]);
        assert_eq!(tail, printed[printed.len() - TAIL..]);
    }
}
