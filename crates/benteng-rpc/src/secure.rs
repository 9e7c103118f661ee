//! Who is at the other end of a connection: the seam between TLS and the simulator's plain hello.

use std::fmt::Display;

use benteng_host::{Fut, Stream};
use benteng_meta::ids::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{Error, Result};

/// Turns a raw byte stream into one whose other end is known. The caller brings the time-out.
pub trait Secure: Send + Sync {
    /// The dialling side: fails unless `expect` is at the other end.
    fn connect(&self, stream: Box<dyn Stream>, expect: NodeId) -> Fut<Result<Box<dyn Stream>>>;
    /// The accepting side: returns who is at the other end.
    fn accept(&self, stream: Box<dyn Stream>) -> Fut<Result<(Box<dyn Stream>, NodeId)>>;
}

/// No secrecy and no proof: each side says its node id. For the simulator and for tests of
/// what stands above; I5 forbids it anywhere else.
pub struct PlainHello {
    me: NodeId,
}

const MAGIC: [u8; 4] = *b"BTPH";
pub(crate) const HELLO: usize = 20;

impl PlainHello {
    /// Speaks as `me`.
    pub fn new(me: NodeId) -> PlainHello {
        PlainHello { me }
    }
}

fn broken(peer: &dyn Display, why: &dyn Display) -> Error {
    Error::Handshake { peer: peer.to_string(), why: why.to_string() }
}

/// magic | own id | expected id (0 from the accepting side): 20 bytes.
pub(crate) fn hello(me: NodeId, expect: NodeId) -> [u8; HELLO] {
    let mut out = [0; HELLO];
    out[..4].copy_from_slice(&MAGIC);
    out[4..12].copy_from_slice(&me.0.to_be_bytes());
    out[12..].copy_from_slice(&expect.0.to_be_bytes());
    out
}

/// Reads [`hello`]: who speaks, and whom it looks for.
pub(crate) fn parse_hello(bytes: &[u8; HELLO]) -> Option<(NodeId, NodeId)> {
    let ids = bytes.strip_prefix(&MAGIC)?;
    let id = |at: usize| ids[at..].first_chunk::<8>().map(|b| NodeId(u64::from_be_bytes(*b)));
    id(0).zip(id(8))
}

async fn read_hello(stream: &mut Box<dyn Stream>, peer: &str) -> Result<(NodeId, NodeId)> {
    let mut bytes = [0; HELLO];
    stream.read_exact(&mut bytes).await.map_err(|e| broken(&peer, &e))?;
    parse_hello(&bytes).ok_or_else(|| broken(&peer, &"it does not say hello"))
}

impl Secure for PlainHello {
    fn connect(&self, mut stream: Box<dyn Stream>, expect: NodeId) -> Fut<Result<Box<dyn Stream>>> {
        let me = self.me;
        Box::pin(async move {
            stream.write_all(&hello(me, expect)).await.map_err(|e| broken(&expect, &e))?;
            stream.flush().await.map_err(|e| broken(&expect, &e))?;
            let (who, _) = read_hello(&mut stream, &expect.to_string()).await?;
            if who != expect {
                return Err(broken(&expect, &format!("node {who} answered")));
            }
            Ok(stream)
        })
    }

    fn accept(&self, mut stream: Box<dyn Stream>) -> Fut<Result<(Box<dyn Stream>, NodeId)>> {
        let me = self.me;
        Box::pin(async move {
            let (who, expect) = read_hello(&mut stream, "a caller").await?;
            stream.write_all(&hello(me, NodeId(0))).await.map_err(|e| broken(&who, &e))?;
            stream.flush().await.map_err(|e| broken(&who, &e))?;
            if expect != me {
                return Err(broken(&who, &format!("it looks for node {expect}")));
            }
            Ok((stream, who))
        })
    }
}
