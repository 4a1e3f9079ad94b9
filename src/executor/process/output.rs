//! The output of a process: passed on line by line, with its end kept for an error.

use std::{
    collections::VecDeque,
    io::{self, PipeReader},
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, net::unix::pipe, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::io::watched;
use crate::{job::JobId, panic::shielded};

/// How much of the last output is kept, in bytes.
const TAIL: usize = 4 * 1024;

/// The maximum length of a line, in bytes; a longer line is passed on in parts.
const LINE: usize = 8 * 1024;

/// How long to keep reading after the process has ended: its last output may still be in the pipe,
/// but descendants may keep the pipe open forever.
const LINGER: Duration = Duration::from_millis(200);

/// The prefix of a line that names the run of the following lines.
const MARK: &str = "\u{1e}punctual run ";

/// The mark that a process prints before a run: the end of a line, then the run and its job.
pub(super) fn mark(run: u64, job: &JobId) -> String {
    format!("\n{MARK}{run} of {job}\n")
}

fn marked(line: &str) -> Option<(u64, &str)> {
    let (run, job) = line.strip_prefix(MARK)?.split_once(" of ")?;
    Some((run.parse().ok()?, job))
}

/// The output of a process. A separate task reads it, since a process blocks on a full pipe.
#[derive(Debug)]
pub(crate) struct Output {
    /// Returns the end of the output.
    reading: JoinHandle<Tail>,
    /// Cancelled on drop, when the process has ended.
    ended: DropGuard,
}

impl Output {
    /// Reads the output from a pipe. Calls `on_line` with the run and the job of each line, as far
    /// as they are marked, and the line.
    pub(crate) fn new(
        reader: PipeReader,
        on_line: impl FnMut(u64, Option<&str>, &str) + Send + 'static,
    ) -> io::Result<Output> {
        let mut reader = watched(|| pipe::Receiver::from_owned_fd(reader.into()))?;
        let ended = CancellationToken::new();
        let over = ended.clone();
        let reading = tokio::spawn(async move {
            let mut lines =
                Lines { part: Vec::new(), run: 0, job: None, tail: Tail::default(), on_line };
            let read = async {
                let mut buffer = [0; 2048];
                while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                    lines.take(&buffer[..read]);
                }
            };
            let linger = async {
                over.cancelled().await;
                tokio::time::sleep(LINGER).await;
            };
            tokio::select! {
                () = read => {}
                () = linger => {}
            }
            lines.finish();
            lines.tail
        });
        Ok(Output { reading, ended: ended.drop_guard() })
    }

    /// The last output of the run, after its process has ended.
    pub(crate) async fn tail(self) -> String {
        drop(self.ended);
        // The task only fails with its runtime, and then the output is not needed.
        let Tail(tail) = self.reading.await.unwrap_or_default();
        String::from_utf8_lossy(&Vec::from(tail)).trim().to_owned()
    }
}

/// The last [`TAIL`] bytes of output.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn keep(&mut self, line: &str) {
        self.0.extend(line.bytes().chain([b'\n']));
        self.0.drain(..self.0.len().saturating_sub(TAIL));
    }
}

/// Splits the output into lines.
struct Lines<F> {
    part: Vec<u8>,
    run: u64,
    job: Option<String>,
    /// The tail of the current run.
    tail: Tail,
    on_line: F,
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
            // A subscriber that panics must not end the reading, which the process depends on.
            shielded(|| (self.on_line)(self.run, self.job.as_deref(), line));
        }
        self.part.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE, Lines, TAIL, Tail, mark};

    /// The lines of these pieces, and the tail.
    fn read_lines(pieces: &[&[u8]]) -> (Vec<(u64, Option<String>, String)>, String) {
        let mut received = Vec::new();
        let mut lines = Lines {
            part: Vec::new(),
            run: 0,
            job: None,
            tail: Tail::default(),
            on_line: |run, job: Option<&str>, line: &str| {
                received.push((run, job.map(str::to_owned), line.to_owned()));
            },
        };
        for piece in pieces {
            lines.take(piece);
        }
        lines.finish();
        let tail = String::from_utf8(lines.tail.0.into()).unwrap();
        (received, tail)
    }

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        read_lines(pieces).0.into_iter().map(|(_, _, line)| line).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(lines(&[b"on", b"e\r\n\ntwo\nthr", b"ee"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"not \xff text\n"]), ["not \u{fffd} text"]);
    }

    #[test]
    fn a_line_without_an_end_is_handed_on_in_parts() {
        let piece = [b'x'; 1000];
        let received = lines(&[&piece[..]; 20]);
        assert!(received.len() > 1 && received.iter().all(|line| line.len() < LINE + piece.len()));
        assert_eq!(received.concat().len(), 20_000);
    }

    #[test]
    fn lines_belong_to_the_run_that_was_marked() {
        let (one, other) = (mark(7, &"one".into()), mark(8, &"a\nb of c".into()));
        let (received, tail) =
            read_lines(&[b"early", one.as_bytes(), b"a\nb", other.as_bytes(), b"c"]);
        let expected = [
            (0, None, "early"),
            (7, Some("one"), "a"),
            (7, Some("one"), "b"),
            (8, Some(r"a\nb of c"), "c"),
        ];
        let expected =
            expected.map(|(run, job, line)| (run, job.map(str::to_owned), line.to_owned()));
        assert_eq!(received, expected);
        assert_eq!(tail, "c\n");
    }

    #[test]
    fn the_tail_is_the_end_of_it() {
        let printed = "0123456789\n".repeat(1000);
        let (_, tail) = read_lines(&[printed.as_bytes()]);
        assert_eq!(tail, printed[printed.len() - TAIL..]);
    }
}
