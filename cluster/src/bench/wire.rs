//! One client's connection: HTTP/1.1, kept alive, opened again when it broke.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::target::{Address, Target};

/// A request that stands still for longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request; path and query are encoded.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) body: Bytes,
    /// Hash of the body in hex, or that it is not signed.
    pub(crate) payload: String,
}

/// A connection to one address.
pub(crate) struct Connection<'a> {
    address: &'a Address,
    target: &'a Target,
    open: Option<SendRequest<Full<Bytes>>>,
    /// What moves the bytes of the open connection.
    driver: JoinSet<()>,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(address: &'a Address, target: &'a Target) -> Connection<'a> {
        Connection { address, target, open: None, driver: JoinSet::new() }
    }

    /// Sends a request and hands the body of the answer to `each` as it comes. Returns the status.
    ///
    /// Errors: of the connection, which is opened anew by the next call.
    pub(crate) async fn send(
        &mut self,
        request: Request<'_>,
        each: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<u16> {
        let sent = tokio::time::timeout(PATIENCE, self.exchange(request, each)).await;
        let sent = sent.context("no answer within a minute").flatten();
        if sent.is_err() {
            self.open = None;
        }
        sent
    }

    async fn exchange(&mut self, request: Request<'_>, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<u16> {
        let Request { method, path, query, body, payload } = request;
        let (host, now) = (&self.address.authority, SystemTime::now());
        let signed = self.target.signer.sign(method.as_str(), host, path, query, &payload, now);
        let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("host", host)
            .header("x-amz-date", signed.date)
            .header("x-amz-content-sha256", payload)
            .header("authorization", signed.authorization)
            .body(Full::new(body))?;
        let sender = self.sender().await?;
        let mut answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        while let Some(frame) = answer.body_mut().frame().await {
            if let Some(piece) = frame?.data_ref() {
                each(piece);
            }
        }
        Ok(status)
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        // An endpoint may close a connection between two requests; that is no error of its.
        let ready = match &mut self.open {
            Some(open) => open.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            self.driver.abort_all();
            self.open = Some(self.connect().await?);
        }
        self.open.as_mut().context("a connection was just opened")
    }

    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>> {
        let socket = TcpStream::connect((self.address.host.as_str(), self.address.port)).await?;
        socket.set_nodelay(true)?;
        match &self.address.tls {
            None => {
                let (sender, driver) = handshake(TokioIo::new(socket)).await?;
                self.driver.spawn(async move { drop(driver.await) });
                Ok(sender)
            }
            Some(name) => {
                let stream = self.target.tls.connect(name.clone(), socket).await?;
                let (sender, driver) = handshake(TokioIo::new(stream)).await?;
                self.driver.spawn(async move { drop(driver.await) });
                Ok(sender)
            }
        }
    }
}
