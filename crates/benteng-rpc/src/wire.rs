//! Frames on a connection: a header of 20 bytes, then a body.
//!
//! Header: body length u32 | CRC32C u32 | kind u8 | three zero bytes | id u64, big-endian. The
//! checksum covers the header without itself, and the body. Nothing is copied on the way in:
//! parts are slices of the read buffer. `docs/formats-rpc.md` has the bodies.

use std::collections::VecDeque;
use std::io::IoSlice;

use benteng_meta::ids::GroupId;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use crate::error::{Error, Refusal, Result};
use crate::message::{Reply, Request, Status};

/// The longest body of a frame.
pub const FRAME_MAX: usize = 8 << 20;
/// The most parts of a request or reply.
pub const PARTS_MAX: usize = 1024;

pub(crate) const HEADER: usize = 20;
/// Parts up to this length are copied together, so that a write has few slices; longer ones are not.
const COPY_MAX: usize = 2048;
const REQUEST_HEAD: usize = 2 + 4 + 8;
const REPLY_HEAD: usize = 1 + 2;
/// The longest text of a refusal that is sent.
const MESSAGE_MAX: usize = 1024;

/// One frame's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A call; its id is the caller's and answered with.
    Request(Request),
    /// The answer to the call of this id.
    Reply(std::result::Result<Reply, Refusal>),
    /// Answer with a pong of the same id.
    Ping,
    /// The answer to a ping.
    Pong,
    /// Opens the stream of this id.
    Open(Request),
    /// A message of a stream; on the way in always one part.
    Data(Vec<Bytes>),
    /// The sender's direction of the stream has ended well.
    End,
    /// Both directions have ended badly.
    Reset(Refusal),
    /// The receiver has taken so many bytes.
    Window(u32),
}

/// Bytes that no peer of ours sends, or damage: the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbage(pub(crate) &'static str);

impl Message {
    fn kind(&self) -> u8 {
        match self {
            Message::Request(_) => 1,
            Message::Reply(_) => 2,
            Message::Ping => 3,
            Message::Pong => 4,
            Message::Open(_) => 5,
            Message::Data(_) => 6,
            Message::End => 7,
            Message::Reset(_) => 8,
            Message::Window(_) => 9,
        }
    }

    /// What stands in the body before the parts.
    fn head(&self, out: &mut BytesMut) {
        match self {
            Message::Request(request) | Message::Open(request) => {
                out.put_u16(request.method);
                out.put_u32(request.group.0);
                out.put_u64(request.epoch);
                put_lengths(&request.parts, out);
            }
            Message::Reply(Ok(reply)) => {
                let (status, code) = match reply.status {
                    Status::Ok => (0, 0),
                    Status::Refused(code) => (1, code),
                };
                out.put_u8(status);
                out.put_u16(code);
                put_lengths(&reply.parts, out);
            }
            Message::Reply(Err(refusal)) => {
                out.put_u8(2);
                put_refusal(refusal, out);
            }
            Message::Reset(refusal) => put_refusal(refusal, out),
            Message::Window(bytes) => out.put_u32(*bytes),
            Message::Ping | Message::Pong | Message::Data(_) | Message::End => {}
        }
    }

    fn parts(&self) -> &[Bytes] {
        match self {
            Message::Request(request) | Message::Open(request) => &request.parts,
            Message::Reply(Ok(reply)) => &reply.parts,
            Message::Data(parts) => parts,
            _ => &[],
        }
    }

    /// Whether a peer makes us send it, and no window bounds how often.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Message::Reply(_) | Message::Pong | Message::Reset(_))
    }

    /// About how many bytes it takes on the wire.
    pub(crate) fn len(&self) -> usize {
        HEADER + self.parts().iter().map(Bytes::len).sum::<usize>()
    }

    /// As the free [`check_fit`].
    pub(crate) fn check_fit(&self) -> Result<()> {
        check_fit(self.parts())
    }
}

/// Refuses what does not fit in a frame. Errors: `TooLarge`.
pub(crate) fn check_fit(parts: &[Bytes]) -> Result<()> {
    let bytes: usize = parts.iter().map(Bytes::len).sum();
    let head = REQUEST_HEAD + 2 + 4 * parts.len();
    if parts.len() > PARTS_MAX || bytes + head > FRAME_MAX {
        return Err(Error::TooLarge { bytes, parts: parts.len() });
    }
    Ok(())
}

fn put_lengths(parts: &[Bytes], out: &mut BytesMut) {
    out.put_u16(u16::try_from(parts.len()).expect("check_fit has bounded the parts"));
    for part in parts {
        out.put_u32(u32::try_from(part.len()).expect("check_fit has bounded the bytes"));
    }
}

fn put_refusal(refusal: &Refusal, out: &mut BytesMut) {
    out.put_u16(refusal.code);
    let mut len = refusal.message.len().min(MESSAGE_MAX);
    while !refusal.message.is_char_boundary(len) {
        len -= 1;
    }
    out.put_slice(&refusal.message.as_bytes()[..len]);
}

fn checksum(header: &[u8; HEADER], body: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&header[..4]);
    digest.update(&header[8..]);
    for piece in body {
        digest.update(piece);
    }
    u32::try_from(digest.finalize()).expect("a 32-bit checksum fits")
}

/// Encoded frames on their way to the socket: runs of small bytes and, between them, large parts as they are.
#[derive(Default)]
pub(crate) struct Outgoing {
    segments: VecDeque<Bytes>,
    small: BytesMut,
}

impl Outgoing {
    /// Appends a frame that has passed [`Message::check_fit`].
    pub(crate) fn push(&mut self, id: u64, message: &Message) {
        let start = self.small.len();
        self.small.put_bytes(0, HEADER);
        message.head(&mut self.small);
        let parts = message.parts();
        let head = &self.small[start + HEADER..];
        let len = head.len() + parts.iter().map(Bytes::len).sum::<usize>();

        let mut header = [0; HEADER];
        header[..4]
            .copy_from_slice(&u32::try_from(len).expect("check_fit has bounded the bytes").to_be_bytes());
        header[8] = message.kind();
        header[12..].copy_from_slice(&id.to_be_bytes());
        let body: Vec<&[u8]> = std::iter::once(head).chain(parts.iter().map(|part| &part[..])).collect();
        let crc = checksum(&header, &body);
        header[4..8].copy_from_slice(&crc.to_be_bytes());
        self.small[start..start + HEADER].copy_from_slice(&header);

        for part in parts {
            if part.len() <= COPY_MAX {
                self.small.extend_from_slice(part);
            } else {
                self.flush_small();
                self.segments.push_back(part.clone());
            }
        }
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            self.segments.push_back(self.small.split().freeze());
        }
    }

    /// Ends a batch: all of it can be written now.
    pub(crate) fn seal(&mut self) {
        self.flush_small();
    }

    /// Fills `slices` for one vectored write; returns how many.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            *slot = IoSlice::new(segment);
            n += 1;
        }
        n
    }

    /// Drops `n` written bytes from the front.
    pub(crate) fn advance(&mut self, mut n: usize) {
        while let Some(front) = self.segments.front_mut() {
            if n < front.len() {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.segments.pop_front();
        }
    }

    /// Whether everything sealed is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}

/// Takes the next frame off the front of `buffer`; `None` until it is whole, with room made for it.
pub(crate) fn decode(buffer: &mut BytesMut) -> std::result::Result<Option<(u64, Message)>, Garbage> {
    let Some(header) = buffer.first_chunk::<HEADER>().copied() else {
        return Ok(None);
    };
    let mut fields = &header[..];
    let len = usize::try_from(fields.get_u32()).map_err(|_| Garbage("frame too long"))?;
    let crc = fields.get_u32();
    let kind = fields.get_u8();
    if header[9..12] != [0; 3] || !(1..=9).contains(&kind) {
        return Err(Garbage("unknown kind of frame"));
    }
    fields.advance(3);
    let id = fields.get_u64();
    if len > FRAME_MAX {
        return Err(Garbage("frame too long"));
    }
    let missing = (HEADER + len).saturating_sub(buffer.len());
    if missing > 0 {
        // One reservation for the whole frame, so that a chunk arrives in one piece of memory.
        buffer.reserve(missing);
        return Ok(None);
    }
    let mut frame = buffer.split_to(HEADER + len).freeze();
    frame.advance(HEADER);
    if checksum(&header, &[&frame]) != crc {
        return Err(Garbage("checksum"));
    }
    let message = decode_body(kind, frame).ok_or(Garbage("body"))?;
    Ok(Some((id, message)))
}

fn decode_body(kind: u8, mut body: Bytes) -> Option<Message> {
    match kind {
        1 => Some(Message::Request(get_request(body)?)),
        2 => Some(Message::Reply(get_reply(body)?)),
        3 => body.is_empty().then_some(Message::Ping),
        4 => body.is_empty().then_some(Message::Pong),
        5 => Some(Message::Open(get_request(body)?)),
        6 => Some(Message::Data(vec![body])),
        7 => body.is_empty().then_some(Message::End),
        8 => Some(Message::Reset(get_refusal(body)?)),
        9 => (body.len() == 4).then(|| Message::Window(body.get_u32())),
        _ => None,
    }
}

fn get_request(mut body: Bytes) -> Option<Request> {
    if body.len() < REQUEST_HEAD {
        return None;
    }
    let method = body.get_u16();
    let group = GroupId(body.get_u32());
    let epoch = body.get_u64();
    Some(Request { method, group, epoch, parts: get_parts(body)? })
}

fn get_reply(mut body: Bytes) -> Option<std::result::Result<Reply, Refusal>> {
    if body.len() < REPLY_HEAD {
        return None;
    }
    let status = match body.get_u8() {
        0 => {
            if body.get_u16() != 0 {
                return None;
            }
            Status::Ok
        }
        1 => Status::Refused(body.get_u16()),
        2 => return Some(Err(get_refusal(body)?)),
        _ => return None,
    };
    Some(Ok(Reply { status, parts: get_parts(body)? }))
}

fn get_refusal(mut body: Bytes) -> Option<Refusal> {
    if body.len() < 2 || body.len() > 2 + MESSAGE_MAX {
        return None;
    }
    let code = body.get_u16();
    Some(Refusal { code, message: std::str::from_utf8(&body).ok()?.to_owned() })
}

fn get_parts(mut body: Bytes) -> Option<Vec<Bytes>> {
    if body.len() < 2 {
        return None;
    }
    let count = usize::from(body.get_u16());
    if count > PARTS_MAX || body.len() < 4 * count {
        return None;
    }
    let mut lengths = body.split_to(4 * count);
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let len = usize::try_from(lengths.get_u32()).ok()?;
        if len > body.len() {
            return None;
        }
        parts.push(body.split_to(len));
    }
    body.is_empty().then_some(parts)
}

/// A frame of any kind and body, rightly summed: what a peer of a newer version, or a liar, may send.
#[cfg(debug_assertions)]
pub(crate) fn frame(id: u64, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    header[8] = kind;
    header[12..].copy_from_slice(&id.to_be_bytes());
    let crc = checksum(&header, &[body]);
    header[4..8].copy_from_slice(&crc.to_be_bytes());
    [&header, body].concat()
}

#[cfg(any(test, debug_assertions))]
impl Outgoing {
    /// All sealed bytes.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.segments.iter().flat_map(|segment| segment.to_vec()).collect()
    }
}

#[cfg(test)]
mod tests;
