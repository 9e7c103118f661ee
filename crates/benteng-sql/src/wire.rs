//! Messages of the protocol (version 3.0) on a socket. Every byte of a client may be
//! garbage: lengths are checked before anything is kept, counts before anything is
//! allocated, and nothing here panics on what came in. Answers are `pgwire`'s messages.

use std::collections::BTreeMap;
use std::io;

use benteng_host::Stream;
use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A connected client, with or without TLS.
pub(crate) type Socket = Box<dyn Stream>;

/// Bytes that a client may send before it has logged in (as PostgreSQL).
const FIRST_MAX: usize = 10_000;
/// Bytes that are read ahead while a query runs, so that a lost client is noticed.
const AHEAD_MAX: usize = 64 << 10;
/// Answers that are put together before they are sent.
pub(crate) const OUTPUT_FULL: usize = 32 << 10;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// The connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the client closed the connection")]
    Closed,
    #[error("invalid {0} message")]
    Garbage(&'static str),
    #[error("a message of {got} bytes exceeds the bound of {limit} bytes")]
    TooLong { got: usize, limit: usize },
    #[error("an answer cannot be sent: {0}")]
    Answer(#[from] pgwire::error::PgWireError),
}

/// What a client may begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum First {
    Ssl,
    Gss,
    Cancel {
        pid: i32,
        secret: Bytes,
    },
    Startup {
        minor: u16,
        parameters: BTreeMap<String, String>,
    },
    /// A version that is not ours.
    OtherVersion {
        major: u16,
        minor: u16,
    },
}

/// What a client asks for once it has begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Close(Target),
    Execute {
        portal: String,
        rows: usize,
    },
    Flush,
    Sync,
    Terminate,
    /// Passwords and SASL answers.
    Password(Bytes),
    /// COPY data, which only a COPY could want.
    Copy,
    /// A function call (obsolete).
    FunctionCall,
}

/// A prepared statement or a portal, by name; empty: the unnamed one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Statement(String),
    Portal(String),
}

/// Values for a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    /// 0 text, 1 binary: none, one for all, or one each.
    pub(crate) formats: Vec<i16>,
    /// `None` is NULL.
    pub(crate) values: Vec<Option<Bytes>>,
    /// Formats of the answer's columns, likewise.
    pub(crate) results: Vec<i16>,
}

/// A socket with what was read ahead and what waits to be sent.
pub(crate) struct Wire {
    socket: Socket,
    input: BytesMut,
    output: BytesMut,
    /// Bytes of the longest message taken.
    limit: usize,
}

impl Wire {
    pub(crate) fn new(socket: Socket, limit: usize) -> Wire {
        Wire { socket, input: BytesMut::new(), output: BytesMut::new(), limit }
    }

    /// Takes messages up to `limit` bytes from here on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The bare socket, for TLS. `None` if the client sent more than it was asked for: bytes
    /// sent before TLS must never be taken as sent within it (CVE-2021-23222).
    pub(crate) fn into_socket(self) -> Option<Socket> {
        self.input.is_empty().then_some(self.socket)
    }

    /// The first message, or another one before the startup message.
    pub(crate) async fn first(&mut self) -> Result<First, WireError> {
        loop {
            if let Some(first) = first(&mut self.input)? {
                return Ok(first);
            }
            self.read().await?;
        }
    }

    /// The next message. Cancellation: safe, what was read stays.
    pub(crate) async fn next(&mut self) -> Result<Frontend, WireError> {
        loop {
            if let Some(message) = frontend(&mut self.input, self.limit)? {
                return Ok(message);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), WireError> {
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }

    /// Waits until the client is gone; reads ahead within a bound meanwhile.
    /// Cancellation: safe, what was read stays.
    pub(crate) async fn gone(&mut self) -> WireError {
        while self.input.len() < AHEAD_MAX {
            if let Err(e) = self.read().await {
                return e;
            }
        }
        std::future::pending().await
    }

    /// Puts a message behind those that wait.
    pub(crate) fn put(&mut self, message: &impl Message) -> Result<(), WireError> {
        let before = self.output.len();
        message.encode(&mut self.output).map_err(|e| {
            // Half a message must not stay: the client would lose its place.
            self.output.truncate(before);
            WireError::Answer(e)
        })
    }

    /// Puts one byte: the answer to SSL and GSS requests.
    pub(crate) fn put_byte(&mut self, byte: u8) {
        self.output.extend_from_slice(&[byte]);
    }

    /// Whether enough waits to be worth sending.
    pub(crate) fn is_full(&self) -> bool {
        self.output.len() >= OUTPUT_FULL
    }

    /// Sends what waits. Cancellation: safe, what is unsent stays.
    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        while !self.output.is_empty() {
            if self.socket.write_buf(&mut self.output).await? == 0 {
                return Err(WireError::Closed);
            }
        }
        Ok(self.socket.flush().await?)
    }

    /// Ends the connection properly, so that TLS clients see no truncation.
    pub(crate) async fn close(mut self) {
        // The peer may be gone already.
        let _ = self.flush().await;
        let _ = self.socket.shutdown().await;
    }
}

/// Takes a first message; `None`: more bytes are needed.
pub(crate) fn first(input: &mut BytesMut) -> Result<Option<First>, WireError> {
    let Some(length) = input.first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize) else {
        return Ok(None);
    };
    if !(8..=FIRST_MAX).contains(&length) {
        return Err(WireError::Garbage("startup"));
    }
    if input.len() < length {
        return Ok(None);
    }
    let mut body = Reader { bytes: input.split_to(length).freeze(), what: "startup" };
    body.bytes.advance(4);
    let code = body.u32()?;
    Ok(Some(match code {
        SSL_REQUEST => First::Ssl,
        GSS_REQUEST => First::Gss,
        CANCEL_REQUEST => {
            let pid = body.i32()?;
            First::Cancel { pid, secret: body.bytes }
        }
        version => {
            let (major, minor) = ((version >> 16) as u16, version as u16);
            if major != 3 {
                return Ok(Some(First::OtherVersion { major, minor }));
            }
            let mut parameters = BTreeMap::new();
            loop {
                let name = body.text()?;
                if name.is_empty() {
                    break;
                }
                parameters.insert(name, body.text()?);
            }
            First::Startup { minor, parameters }
        }
    }))
}

/// Takes a message; `None`: more bytes are needed.
pub(crate) fn frontend(input: &mut BytesMut, limit: usize) -> Result<Option<Frontend>, WireError> {
    let Some(head) = input.first_chunk::<5>() else { return Ok(None) };
    let kind = head[0];
    let what = name(kind).ok_or(WireError::Garbage("unknown"))?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length < 4 {
        return Err(WireError::Garbage(what));
    }
    if length > limit {
        return Err(WireError::TooLong { got: length, limit });
    }
    if input.len() < 1 + length {
        return Ok(None);
    }
    let mut body = Reader { bytes: input.split_to(1 + length).freeze(), what };
    body.bytes.advance(5);
    body.message(kind).map(Some)
}

fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        b'Q' => "query",
        b'P' => "parse",
        b'B' => "bind",
        b'D' => "describe",
        b'C' => "close",
        b'E' => "execute",
        b'H' => "flush",
        b'S' => "sync",
        b'X' => "terminate",
        b'p' => "password",
        b'd' | b'c' | b'f' => "copy",
        b'F' => "function call",
        _ => return None,
    })
}

/// Reads the fields of one message.
struct Reader {
    bytes: Bytes,
    what: &'static str,
}

impl Reader {
    fn message(&mut self, kind: u8) -> Result<Frontend, WireError> {
        let message = match kind {
            b'Q' => Frontend::Query(self.text()?),
            b'P' => {
                let (name, sql) = (self.text()?, self.text()?);
                let types = self.list(4, |r| r.u32())?;
                Frontend::Parse { name, sql, types }
            }
            b'B' => {
                let (portal, statement) = (self.text()?, self.text()?);
                let formats = self.list(2, |r| r.i16())?;
                let values = self.list(4, |r| r.value())?;
                let results = self.list(2, |r| r.i16())?;
                Frontend::Bind(Bind { portal, statement, formats, values, results })
            }
            b'D' => Frontend::Describe(self.target()?),
            b'C' => Frontend::Close(self.target()?),
            b'E' => {
                let portal = self.text()?;
                // Not above zero: all rows.
                Frontend::Execute { portal, rows: usize::try_from(self.i32()?).unwrap_or(0) }
            }
            b'H' => Frontend::Flush,
            b'S' => Frontend::Sync,
            b'X' => return Ok(Frontend::Terminate),
            b'p' => return Ok(Frontend::Password(std::mem::take(&mut self.bytes))),
            b'F' => return Ok(Frontend::FunctionCall),
            _ => return Ok(Frontend::Copy),
        };
        if self.bytes.is_empty() { Ok(message) } else { Err(self.garbage()) }
    }

    fn garbage(&self) -> WireError {
        WireError::Garbage(self.what)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let taken = *self.bytes.first_chunk::<N>().ok_or_else(|| self.garbage())?;
        self.bytes.advance(N);
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.take().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, WireError> {
        self.take().map(i32::from_be_bytes)
    }

    fn i16(&mut self) -> Result<i16, WireError> {
        self.take().map(i16::from_be_bytes)
    }

    /// Text up to a zero byte, in UTF-8.
    fn text(&mut self) -> Result<String, WireError> {
        let end = self.bytes.iter().position(|b| *b == 0).ok_or_else(|| self.garbage())?;
        let text = self.bytes.split_to(end);
        self.bytes.advance(1);
        String::from_utf8(text.into()).map_err(|_| WireError::Garbage("non-UTF-8"))
    }

    /// A count of 16 bits, then as many items of at least `least` bytes.
    fn list<T>(
        &mut self,
        least: usize,
        item: impl Fn(&mut Reader) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = usize::from(u16::from_be_bytes(self.take()?));
        if count * least > self.bytes.len() {
            return Err(self.garbage());
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn value(&mut self) -> Result<Option<Bytes>, WireError> {
        match self.i32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) if length <= self.bytes.len() => Ok(Some(self.bytes.split_to(length))),
                _ => Err(self.garbage()),
            },
        }
    }

    fn target(&mut self) -> Result<Target, WireError> {
        let [kind] = self.take()?;
        let name = self.text()?;
        match kind {
            b'S' => Ok(Target::Statement(name)),
            b'P' => Ok(Target::Portal(name)),
            _ => Err(self.garbage()),
        }
    }
}

#[cfg(test)]
mod tests {
    use pgwire::messages::extendedquery as theirs;
    use pgwire::messages::simplequery;
    use proptest::prelude::*;

    use super::*;

    fn encoded(message: &impl Message) -> BytesMut {
        let mut out = BytesMut::new();
        message.encode(&mut out).expect("encodes");
        out
    }

    fn check(message: &impl Message, expected: &Frontend) {
        let whole = encoded(message);
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert_eq!(
                frontend(&mut part, 1 << 20).expect("no garbage"),
                None,
                "cut at {cut} of {expected:?}"
            );
            assert_eq!(part.len(), cut, "nothing is lost");
        }
        let mut two = [&whole[..], &whole[..]].concat().as_slice().into();
        assert_eq!(frontend(&mut two, 1 << 20).expect("first").as_ref(), Some(expected));
        assert_eq!(frontend(&mut two, 1 << 20).expect("second").as_ref(), Some(expected));
        assert!(two.is_empty());
    }

    #[test]
    fn messages_are_read_as_pgwire_writes_them() {
        let text = |s: &str| Some(s.to_owned());
        check(&simplequery::Query::new("SELECT 1".into()), &Frontend::Query("SELECT 1".into()));
        check(
            &theirs::Parse::new(text("s"), "SELECT $1".into(), vec![23, 0]),
            &Frontend::Parse { name: "s".into(), sql: "SELECT $1".into(), types: vec![23, 0] },
        );
        let values = vec![Some(Bytes::from_static(b"abc")), None, Some(Bytes::new())];
        check(
            &theirs::Bind::new(None, text("s"), vec![1], values.clone(), vec![0, 1]),
            &Frontend::Bind(Bind {
                portal: String::new(),
                statement: "s".into(),
                formats: vec![1],
                values,
                results: vec![0, 1],
            }),
        );
        check(&theirs::Describe::new(b'S', text("s")), &Frontend::Describe(Target::Statement("s".into())));
        check(&theirs::Close::new(b'P', None), &Frontend::Close(Target::Portal(String::new())));
        check(&theirs::Execute::new(text("p"), 7), &Frontend::Execute { portal: "p".into(), rows: 7 });
        check(&theirs::Sync::new(), &Frontend::Sync);
        check(&theirs::Flush::new(), &Frontend::Flush);
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_kept() {
        let refused = |bytes: &[u8]| frontend(&mut BytesMut::from(bytes), 1000).expect_err("refused");
        assert!(matches!(refused(b"Q\xff\xff\xff\xff"), WireError::TooLong { .. }));
        assert!(matches!(refused(b"Q\0\0\0\x03"), WireError::Garbage("query")));
        assert!(matches!(refused(b"Q\0\0\0\x06ab"), WireError::Garbage("query")), "no zero byte");
        assert!(matches!(refused(b"S\0\0\0\x05x"), WireError::Garbage("sync")), "bytes left over");
        assert!(matches!(refused(b"\x16\x03\x01\0\0"), WireError::Garbage("unknown")), "TLS to a plain door");
        assert!(
            matches!(refused(b"P\0\0\0\x09\0\0\xff\xffx"), WireError::Garbage("parse")),
            "65,535 types in 1 byte"
        );
        assert!(first(&mut BytesMut::from(&b"\0\x01\0\0\0\0\0\0"[..])).is_err(), "startup of 64 KiB");
        assert!(first(&mut BytesMut::from(&b"GET / HTTP/1.1\r\n"[..])).is_err());
    }

    #[test]
    fn first_messages_are_told_apart() {
        let take = |body: &[u8]| {
            let length = u32::try_from(body.len() + 4).expect("short");
            first(&mut [&length.to_be_bytes()[..], body].concat().as_slice().into())
                .expect("valid")
                .expect("whole")
        };
        assert_eq!(take(&SSL_REQUEST.to_be_bytes()), First::Ssl);
        assert_eq!(take(&GSS_REQUEST.to_be_bytes()), First::Gss);
        let cancel = [&CANCEL_REQUEST.to_be_bytes()[..], &7_i32.to_be_bytes(), b"abcd"].concat();
        assert_eq!(take(&cancel), First::Cancel { pid: 7, secret: Bytes::from_static(b"abcd") });
        let startup = [&0x0003_0000_u32.to_be_bytes()[..], b"user\0ana\0database\0benteng\0\0"].concat();
        let First::Startup { minor: 0, parameters } = take(&startup) else { panic!("a startup message") };
        assert_eq!(parameters["user"], "ana");
        assert_eq!(take(&0x0002_0000_u32.to_be_bytes()), First::OtherVersion { major: 2, minor: 0 });
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = frontend(&mut BytesMut::from(&bytes[..]), 1 << 20);
            let _ = first(&mut BytesMut::from(&bytes[..]));
        }

        #[test]
        fn garbage_within_a_message_never_panics(
            kind in proptest::sample::select(&b"QPBDCEHSXpdcfF"[..]),
            body in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let length = u32::try_from(body.len() + 4).expect("short");
            let bytes = [&[kind][..], &length.to_be_bytes(), &body].concat();
            let _ = frontend(&mut BytesMut::from(&bytes[..]), 1 << 20);
        }
    }
}
