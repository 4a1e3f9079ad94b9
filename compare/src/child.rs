//! A command that is given so much time and no more.

use std::{
    io::{self, Read},
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Runs a command and returns what it printed, or why there is nothing of use.
pub(crate) fn run(command: &mut Command, limit: Duration) -> io::Result<Result<String, String>> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Pipes have little room: who doesn't read holds up the one who writes.
    let stdout = read(child.stdout.take());
    let stderr = read(child.stderr.take());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let (stdout, stderr) = (joined(stdout), joined(stderr));
    Ok(match status {
        None => Err(format!("hangs: not done after {} s", limit.as_secs_f64())),
        Some(status) if status.success() => Ok(stdout),
        Some(status) => Err(match last_panic(&stderr) {
            Some(message) => format!("breaks down: {message}"),
            None => format!("breaks down: {status}"),
        }),
    })
}

fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut pipe = pipe.expect("it was asked for");
    thread::spawn(move || {
        let mut text = Vec::new();
        // What came before an error is all there is.
        let _ = pipe.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn joined(reader: JoinHandle<String>) -> String {
    reader.join().expect("reading does not panic")
}

/// The message of the last panic, which stands on the line after the place.
fn last_panic(stderr: &str) -> Option<&str> {
    let (_, after) = stderr.rsplit_once("panicked at ")?;
    after.lines().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<String, String> {
        run(Command::new("sh").args(["-c", script]), limit).expect("there is a shell")
    }

    #[test]
    fn what_it_prints_is_returned() {
        assert_eq!(shell("echo done", Duration::from_secs(60)), Ok("done\n".to_owned()));
    }

    #[test]
    fn one_that_hangs_is_ended() {
        let start = Instant::now();
        let hung = shell("exec sleep 60", Duration::from_millis(100));
        assert_eq!(hung, Err("hangs: not done after 0.1 s".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn one_that_breaks_down_says_why() {
        let script =
            "echo \"thread 'main' panicked at src/x.rs:1:2:\nno date\nnote: …\" >&2; exit 101";
        assert_eq!(shell(script, Duration::from_secs(60)), Err("breaks down: no date".to_owned()));
        let killed = shell("kill -9 $$", Duration::from_secs(60)).expect_err("it was killed");
        assert!(killed.starts_with("breaks down: signal: 9"), "{killed}");
    }
}
