//! Sockets of a simulated host, over turmoil's. What turmoil does not do: one write
//! arrives as one read there, so both are split at random here.
//!
//! Its traps: a lost segment stalls its stream for ever (no retransmission), a connect to
//! a crashed host hangs until that boots. Callers bring deadlines and then drop the stream.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use benteng_host::{Error, Fut, Listener, Net, Result, Stream};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::random::{SimRng, below};

/// The network of one simulated host. Addresses are `name:port`, names those of the simulation.
#[derive(Clone)]
pub struct SimNet {
    rng: Arc<Mutex<SimRng>>,
}

impl SimNet {
    /// Splits by the given stream of randomness.
    pub fn new(rng: SimRng) -> SimNet {
        SimNet { rng: Arc::new(Mutex::new(rng)) }
    }

    /// How many of `n` bytes go through at once: often all, sometimes a few, else any number.
    fn split(&self, n: usize) -> usize {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let most = match below(&mut rng, 4) {
            0 => n.min(8),
            1 => n,
            _ => return n,
        };
        if most == 0 { 0 } else { 1 + below(&mut rng, most as u64) as usize }
    }

    fn stream(&self, inner: TcpStream) -> Box<dyn Stream> {
        Box::new(Split { inner, net: self.clone() })
    }
}

impl Net for SimNet {
    fn listen(&self, addr: &str) -> Fut<Result<Box<dyn Listener>>> {
        let (net, addr) = (self.clone(), addr.to_owned());
        Box::pin(async move {
            let failed = |e| Error::new("listen on", &addr, e);
            let no_port = || io::Error::new(io::ErrorKind::InvalidInput, "it has no port; write host:port");
            let port: u16 = addr
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse().ok())
                .ok_or_else(no_port)
                .map_err(failed)?;
            // turmoil binds the unspecified address alone; a host has one address anyway.
            let inner = TcpListener::bind(("0.0.0.0", port)).await.map_err(failed)?;
            let local = inner.local_addr().map_err(failed)?.to_string();
            Ok(Box::new(Bound { inner, local, net }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, addr: &str) -> Fut<Result<Box<dyn Stream>>> {
        let (net, addr) = (self.clone(), addr.to_owned());
        Box::pin(async move {
            let stream =
                TcpStream::connect(addr.as_str()).await.map_err(|e| Error::new("connect to", &addr, e))?;
            Ok(net.stream(stream))
        })
    }
}

struct Bound {
    inner: TcpListener,
    local: String,
    net: SimNet,
}

impl Listener for Bound {
    fn local_addr(&self) -> String {
        self.local.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            let (stream, peer) =
                self.inner.accept().await.map_err(|e| Error::new("accept on", &self.local, e))?;
            Ok((self.net.stream(stream), peer.to_string()))
        })
    }
}

/// A stream whose calls carry any number of bytes.
struct Split {
    inner: TcpStream,
    net: SimNet,
}

impl AsyncRead for Split {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let most = self.net.split(buf.remaining());
        let mut taken = ReadBuf::new(buf.initialize_unfilled_to(most.min(64 << 10)));
        let end = Pin::new(&mut self.inner).poll_read(cx, &mut taken);
        let n = taken.filled().len();
        buf.advance(n);
        end
    }
}

impl AsyncWrite for Split {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.net.split(buf.len());
        Pin::new(&mut self.inner).poll_write(cx, &buf[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::stream;

    #[test]
    fn bytes_arrive_whole_in_order_and_split_at_any_place() {
        let mut sim =
            turmoil::Builder::new().simulation_duration(Duration::from_secs(60)).rng_seed(1).build();
        sim.host("server", || async {
            let net = SimNet::new(stream(1, "server"));
            let mut listener = net.listen("server:7404").await?;
            loop {
                let (mut connection, peer) = listener.accept().await?;
                assert!(peer.contains(':'), "{peer}");
                let mut all = Vec::new();
                connection.read_to_end(&mut all).await?;
                connection.write_all(&all).await?;
                connection.shutdown().await?;
            }
        });
        sim.client("client", async {
            let net = SimNet::new(stream(1, "client"));
            let mut connection = net.connect("server:7404").await?;
            let sent: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
            connection.write_all(&sent).await?;
            connection.shutdown().await?;
            let mut got = Vec::new();
            let mut sizes = BTreeSet::new();
            let mut buf = vec![0; 4096];
            loop {
                let n = connection.read(&mut buf).await?;
                if n == 0 {
                    break;
                }
                sizes.insert(n);
                got.extend_from_slice(&buf[..n]);
            }
            assert_eq!(got, sent);
            assert!(sizes.len() > 5, "reads are split: {sizes:?}");
            Ok(())
        });
        sim.run().expect("the simulation passes");
    }

    #[test]
    fn errors_name_the_address() {
        crate::testing::on_a_host(|| async {
            let net = SimNet::new(stream(1, "net"));
            let Err(e) = net.connect("nowhere:1").await else { panic!("there is no such host") };
            assert!(e.is_not_found() && e.to_string().contains("nowhere:1"), "{e}");
            let Err(e) = net.listen("host").await else { panic!("there is no port") };
            assert_eq!(e.source.kind(), io::ErrorKind::InvalidInput);
            let free = net.listen("host:0").await.expect("binds");
            assert!(!free.local_addr().ends_with(":0"), "{}", free.local_addr());
            assert!(net.listen(&free.local_addr()).await.is_err(), "it is taken");
        });
    }
}
