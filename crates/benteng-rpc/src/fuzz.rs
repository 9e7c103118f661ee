//! What the parsers of this crate must bear, as plain functions for the fuzzer in `tests/fuzz`. Compiled with
//! debug assertions only: no release holds any of it. A panic is a find.

use benteng_meta::ids::SiteId;
use bytes::BytesMut;
use rustls_pki_types::CertificateDer;

use crate::message::Lane;
use crate::rpc::{PREFACE, preface, read_preface};
use crate::wire::{FRAME_MAX, HEADER, Message, Outgoing, decode, frame};
use crate::{secure, tls};

/// Bytes of a connection, in pieces as a socket gives them: the first byte says how long these are.
pub fn frames(bytes: &[u8]) {
    let Some((step, rest)) = bytes.split_first() else { return };
    let whole = read(rest, rest.len());
    assert_eq!(whole, read(rest, usize::from(*step) + 1), "frames depend on how the socket cut them");
}

/// All frames of `bytes`, given `step` bytes at a time, and whether what followed is garbage.
fn read(bytes: &[u8], step: usize) -> (Vec<(u64, Message)>, bool) {
    let mut buffer = BytesMut::new();
    let mut got = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decode(&mut buffer) {
                Ok(Some(message)) => got.push(message),
                Ok(None) => break,
                Err(_) => return (got, true),
            }
        }
        assert!(buffer.capacity() <= bytes.len() + FRAME_MAX + HEADER, "I7: room beyond one frame");
    }
    (got, false)
}

/// Frames whose checksum is right, so that what stands behind it is reached: kind, length in two bytes, body,
/// again and again. What is read is written again byte for byte.
pub fn bodies(bytes: &[u8]) {
    let mut rest = bytes;
    let mut id = 0;
    while let Some((head, behind)) = rest.split_first_chunk::<3>() {
        let [kind, len @ ..] = *head;
        let (body, later) = behind.split_at(usize::from(u16::from_be_bytes(len)).min(behind.len()));
        rest = later;
        id += 1;
        let sent = frame(id, kind, body);
        let mut buffer = BytesMut::from(&sent[..]);
        match decode(&mut buffer) {
            Ok(Some((got, message))) => {
                assert!(got == id && buffer.is_empty(), "a frame ends where it ends");
                message.check_fit().expect("what came fits");
                let mut out = Outgoing::default();
                out.push(id, &message);
                out.seal();
                assert_eq!(out.into_vec(), sent, "{message:?} is written in another way than it came");
            }
            Ok(None) => panic!("a whole frame is not read"),
            Err(_) => {}
        }
    }
}

/// What opens a connection: preface, answer, the plain hello, and the certificate of whoever calls.
pub fn greeting(bytes: &[u8]) {
    if let Some(first) = bytes.first_chunk::<PREFACE>()
        && let Some(lane) = read_preface(*first)
    {
        assert_eq!(preface(lane), *first);
        assert!(Lane::ALL.contains(&lane));
    }
    if let Some(hello) = bytes.first_chunk::<{ secure::HELLO }>()
        && let Some((me, expected)) = secure::parse_hello(hello)
    {
        assert_eq!(secure::hello(me, expected), *hello);
    }
    // TLS has verified a certificate before it is read here; whether one names a node is ours to see.
    let _ = tls::identity(SiteId::default(), Some(&[CertificateDer::from(bytes)]));
}

#[cfg(test)]
mod tests {
    use benteng_meta::ids::{GroupId, NodeId};
    use bytes::Bytes;

    use super::*;
    use crate::message::{Reply, Request, Status};
    use crate::rpc::{Welcome, welcome};
    use crate::{Refusal, secure};

    /// One of each thing that is said on a connection, by name.
    fn samples() -> Vec<(String, Vec<u8>)> {
        let parts = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")];
        let request = Request { method: 7, group: GroupId(1), epoch: 2, parts: parts.clone() };
        let reply = |status| Message::Reply(Ok(Reply { status, parts: parts.clone() }));
        let messages = [
            ("frame_request", Message::Request(request.clone())),
            ("frame_reply", reply(Status::Ok)),
            ("frame_reply_refused", reply(Status::Refused(5))),
            ("frame_reply_words", Message::Reply(Err(Refusal::new(9, "no")))),
            ("frame_ping", Message::Ping),
            ("frame_pong", Message::Pong),
            ("frame_open", Message::Open(request)),
            ("frame_data", Message::Data(vec![Bytes::from_static(b"xyz")])),
            ("frame_end", Message::End),
            ("frame_reset", Message::Reset(Refusal::new(0, "gone"))),
            ("frame_window", Message::Window(1 << 20)),
        ];
        let mut out: Vec<(String, Vec<u8>)> = Vec::new();
        for lane in Lane::ALL {
            out.push((format!("preface_{lane}"), preface(lane).to_vec()));
        }
        for (name, answer) in
            [("ok", Welcome::Ok), ("unknown", Welcome::Unknown), ("not_a_peer", Welcome::NotAPeer)]
        {
            out.push((format!("welcome_{name}"), welcome(answer).to_vec()));
        }
        out.push(("hello".to_owned(), secure::hello(NodeId(3), NodeId(0x0102)).to_vec()));
        for (name, message) in messages {
            out.push((name.to_owned(), sent(3, &message)));
        }
        out
    }

    fn sent(id: u64, message: &Message) -> Vec<u8> {
        let mut out = Outgoing::default();
        out.push(id, message);
        out.seal();
        out.into_vec()
    }

    #[test]
    fn what_is_said_on_a_connection_is_written_as_ever_and_every_kept_form_is_read() {
        benteng_host::golden::hold("wire", 1, &samples(), &|name, bytes| {
            let no = || "it does not read".to_owned();
            if name.starts_with("preface") {
                let lane = bytes.first_chunk().and_then(|first| read_preface(*first)).ok_or_else(no)?;
                return Ok(preface(lane).to_vec());
            }
            if name.starts_with("welcome") {
                // The dialling end compares.
                return Ok(bytes.to_vec());
            }
            if name == "hello" {
                let (me, expected) = bytes.first_chunk().and_then(secure::parse_hello).ok_or_else(no)?;
                return Ok(secure::hello(me, expected).to_vec());
            }
            let read = decode(&mut BytesMut::from(bytes)).map_err(|garbage| garbage.0.to_owned())?;
            let (id, message) = read.ok_or_else(no)?;
            Ok(sent(id, &message))
        });
    }
}
