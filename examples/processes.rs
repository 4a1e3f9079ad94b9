//! Runs in separate processes, one of which crashes and one of which hangs, and commands.
//!
//! Ends by itself, after three seconds.
//!
//! ```text
//! cargo run --example processes
//! ```

#[cfg(unix)]
use {
    punctual::{BoxError, Context, ProcessPool, Scheduler, Task, command, trigger::now},
    serde::{Deserialize, Serialize},
    std::{process, time::Duration},
};

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // The pool starts this program again; in that process this call does not return.
    punctual::worker(|worker| worker.task::<Decode>().state_with(|| Codec { name: "a C library" }));

    tracing_subscriber::fmt().init();
    println!("this is process {}", process::id());
    let scheduler = Scheduler::builder()
        .task::<Decode>()
        .add_executor("decoders", ProcessPool::new(2))
        .start()
        .await?;

    let mut ends = Vec::new();
    for picture in ["cat.png", "dog.png", "broken.png", "endless.png"] {
        let mut job = scheduler
            .add(now(), Decode { picture: picture.to_owned() })
            .executor("decoders")
            .timeout(Duration::from_secs(2))
            .id(picture);
        ends.push(job.runs());
        job.await?;
    }

    // A command is always a process. Its exit status is the outcome.
    for (id, text) in [("backup", "echo 12 files"), ("upload", "echo no route >&2; exit 3")] {
        let mut job = scheduler.add(now(), command("sh", ["-c", text])).id(id);
        ends.push(job.runs());
        job.await?;
    }

    for mut runs in ends {
        if let Some(run) = runs.next().await {
            println!("{}: {}", run.job, run.outcome);
        }
    }
    println!("{}", scheduler.shutdown().await);
    Ok(())
}

/// Unreliable work: it may crash, or never end.
#[cfg(unix)]
#[derive(Serialize, Deserialize)]
struct Decode {
    picture: String,
}

#[cfg(unix)]
struct Codec {
    name: &'static str,
}

#[cfg(unix)]
impl Task for Decode {
    const NAME: &'static str = "decode";
    type Output = ();

    async fn run(self, cx: Context) {
        // The output of a process goes to `tracing` in the main program.
        println!("{} decodes {}", cx.state::<Codec>().name, self.picture);
        match &*self.picture {
            "broken.png" => process::abort(),
            "endless.png" => std::thread::sleep(Duration::from_secs(3600)),
            _ => {}
        }
    }
}

#[cfg(not(unix))]
fn main() {
    println!("processes are for Unix");
}
