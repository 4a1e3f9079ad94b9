//! A proxy between a node and its server, as a network that fails.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    runtime::Runtime,
    sync::watch,
};

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Works,
    /// Bytes to the server are lost, and nobody is told.
    LosesRequests,
    /// Bytes from the server are lost.
    LosesAnswers,
    LosesAll,
    /// Connections are reset, and no new ones are made.
    Resets,
}

/// Forwards until it is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    network: watch::Sender<Network>,
    /// Whether anything has been lost or reset.
    lost: Arc<AtomicBool>,
    _runtime: Runtime,
}

impl Proxy {
    pub(crate) fn new(server: String) -> Proxy {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let (network, changes) = watch::channel(Network::Works);
        let lost = Arc::new(AtomicBool::new(false));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = lost.clone();
        runtime.spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (server, changes, lost) = (server.clone(), changes.clone(), counts.clone());
                tokio::spawn(async move {
                    // Either side may end a connection at any time.
                    let _ = forward(client, &server, changes, lost).await;
                });
            }
        });
        Proxy { port, network, lost, _runtime: runtime }
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Whether anything has been lost or reset since the last question.
    pub(crate) fn has_failed(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }
}

async fn forward(
    mut client: TcpStream,
    server: &str,
    mut network: watch::Receiver<Network>,
    lost: Arc<AtomicBool>,
) -> io::Result<()> {
    if *network.borrow_and_update() == Network::Resets {
        lost.store(true, Ordering::Relaxed);
        return client.set_zero_linger();
    }
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let loses_requests = |network| matches!(network, Network::LosesRequests | Network::LosesAll);
    let loses_answers = |network| matches!(network, Network::LosesAnswers | Network::LosesAll);
    let mut changes = network.clone();
    let resets = async {
        // An error means that there is no proxy any more.
        let _ = changes.wait_for(|network| *network == Network::Resets).await;
    };
    tokio::select! {
        done = copy(from_client, to_server, network.clone(), loses_requests, &lost) => done,
        done = copy(from_server, to_client, network.clone(), loses_answers, &lost) => done,
        () = resets => {
            lost.store(true, Ordering::Relaxed);
            client.set_zero_linger()?;
            server.set_zero_linger()
        }
    }
}

/// Copies until the end; once something was lost, nothing of the connection arrives any more.
async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    network: watch::Receiver<Network>,
    loses: impl Fn(Network) -> bool,
    lost: &AtomicBool,
) -> io::Result<()> {
    let (mut buffer, mut is_broken) = ([0; 16 * 1024], false);
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            // Nobody is told of the end of a connection that a black hole has swallowed.
            if is_broken {
                std::future::pending::<()>().await;
            }
            return Ok(());
        }
        is_broken |= loses(*network.borrow());
        if is_broken {
            lost.store(true, Ordering::Relaxed);
        } else {
            to.write_all(&buffer[..count]).await?;
        }
    }
}
