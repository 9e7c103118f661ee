//! TCP with `TCP_NODELAY` (without it small requests wait for delayed acks: a quarter of the throughput).

use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};

use crate::{Error, Fut, Listener, Net, Result, Stream};

/// The machine's TCP stack.
pub struct Tcp;

impl Net for Tcp {
    fn listen(&self, addr: &str) -> Fut<Result<Box<dyn Listener>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let inner = TcpListener::bind(&addr).await.map_err(|e| Error::new("listen on", &addr, e))?;
            let local = inner.local_addr().map_err(|e| Error::new("listen on", &addr, e))?.to_string();
            Ok(Box::new(Bound { inner, local }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, addr: &str) -> Fut<Result<Box<dyn Stream>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(&addr).await.map_err(|e| Error::new("connect to", &addr, e))?;
            stream.set_nodelay(true).map_err(|e| Error::new("connect to", &addr, e))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

struct Bound {
    inner: TcpListener,
    local: String,
}

impl Listener for Bound {
    fn local_addr(&self) -> String {
        self.local.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            let (stream, peer) =
                self.inner.accept().await.map_err(|e| Error::new("accept on", &self.local, e))?;
            stream.set_nodelay(true).map_err(|e| Error::new("accept on", &self.local, e))?;
            Ok((Box::new(stream) as Box<dyn Stream>, peer.to_string()))
        })
    }
}
