//! aws-chunked, as a state machine without I/O. Data is passed on as it comes, in pieces of
//! whatever size the socket gives; a chunk's signature is checked at its end.
//! Source: AWS "Signature calculations for the authorization header: transferring payload in
//! multiple chunks", and "… with trailing headers".

use benteng_objects::BodyError;
use bytes::{Buf, Bytes};
use ring::digest;

use crate::sign::ChunkSigner;

/// A chunk's first line: size, extension, signature.
const LINE_MAX: usize = 1024;
/// All trailers together.
const TRAILERS_MAX: usize = 16 * 1024;

/// Decoder of one body.
pub(crate) struct Chunked {
    state: State,
    signer: Option<Box<ChunkSigner>>,
    /// Hash of the current chunk and the signature it must have; only if chunks are signed.
    current: Option<(digest::Context, String)>,
    /// The line or the trailers that are being read.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a chunk's first line.
    Line,
    /// In a chunk's data: so much is left.
    Data(u64),
    /// In the line end behind the data: so many bytes of it were seen.
    End(usize),
    /// Behind the last chunk.
    Trailers,
}

impl Chunked {
    /// A decoder; with a `signer`, every chunk must be signed.
    pub(crate) fn new(signer: Option<Box<ChunkSigner>>) -> Chunked {
        Chunked { state: State::Line, signer, current: None, text: Vec::new() }
    }

    /// Takes bytes from the front of `input` and returns the next piece of data, if there is one.
    /// Returns `None` only when `input` is empty.
    pub(crate) fn push(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, BodyError> {
        while !input.is_empty() {
            match self.state {
                State::Line => self.line(input)?,
                State::Data(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(length);
                    if let Some((hash, _)) = &mut self.current {
                        hash.update(&data);
                    }
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::End(0) } else { State::Data(left) };
                    if left == 0 {
                        self.check_chunk()?;
                    }
                    return Ok(Some(data));
                }
                State::End(seen) => {
                    if input[0] != b"\r\n"[seen] {
                        return Err(coding("a chunk is longer than its size says"));
                    }
                    input.advance(1);
                    self.state = if seen == 1 { State::Line } else { State::End(1) };
                }
                State::Trailers => {
                    if self.text.len() + input.len() > TRAILERS_MAX {
                        return Err(coding("its trailers exceed 16 KiB"));
                    }
                    self.text.extend_from_slice(input);
                    input.clear();
                }
            }
        }
        Ok(None)
    }

    /// The body has ended: returns its trailers, names in lower case.
    /// Errors: `Incomplete` if the last chunk has not come; `Signature` if the trailers' is wrong.
    pub(crate) fn finish(mut self) -> Result<Vec<(String, String)>, BodyError> {
        if self.state != State::Trailers {
            return Err(BodyError::Incomplete);
        }
        let text = String::from_utf8(self.text).map_err(|_| coding("its trailers are not text"))?;
        let (mut trailers, mut signature) = (Vec::new(), None);
        for line in text.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| coding("a trailer has no colon"))?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
            if name == "x-amz-trailer-signature" {
                signature = Some(value);
            } else {
                trailers.push((name, value));
            }
        }
        if let Some(signer) = &mut self.signer
            && (!trailers.is_empty() || signature.is_some())
        {
            let mut lines: Vec<String> =
                trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
            lines.sort_unstable();
            let holds = signature.is_some_and(|given| signer.trailer(&lines.concat(), &given));
            if !holds {
                return Err(BodyError::Signature);
            }
        }
        Ok(trailers)
    }

    fn line(&mut self, input: &mut Bytes) -> Result<(), BodyError> {
        let end = input.iter().position(|b| *b == b'\n');
        let taken = input.split_to(end.map_or(input.len(), |at| at + 1));
        if self.text.len() + taken.len() > LINE_MAX {
            return Err(coding("the first line of a chunk exceeds 1 KiB"));
        }
        self.text.extend_from_slice(&taken);
        if end.is_none() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        let line = std::str::from_utf8(&text).map_err(|_| coding("the first line of a chunk is not text"))?;
        let line = line.trim_end_matches(['\r', '\n']);
        let (size, extension) = line.split_once(';').unwrap_or((line, ""));
        let size = size.trim();
        let digits = !size.is_empty() && size.len() <= 16 && size.bytes().all(|b| b.is_ascii_hexdigit());
        let size = digits.then(|| u64::from_str_radix(size, 16).ok()).flatten();
        let size = size.ok_or_else(|| coding("the size of a chunk is not a number"))?;
        if self.signer.is_some() {
            let given = extension.trim().strip_prefix("chunk-signature=").ok_or(BodyError::Signature)?;
            self.current = Some((digest::Context::new(&digest::SHA256), given.to_owned()));
        }
        if size == 0 {
            self.check_chunk()?;
            self.state = State::Trailers;
        } else {
            self.state = State::Data(size);
        }
        Ok(())
    }

    fn check_chunk(&mut self) -> Result<(), BodyError> {
        if let Some(signer) = &mut self.signer
            && let Some((hash, given)) = self.current.take()
            && !signer.chunk(hash.finish().as_ref(), &given)
        {
            return Err(BodyError::Signature);
        }
        Ok(())
    }
}

fn coding(why: &str) -> BodyError {
    BodyError::Coding(why.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Data and trailers.
    type Decoded = (Vec<u8>, Vec<(String, String)>);

    /// Decodes `wire`, cut into pieces of the given size.
    fn decode(mut decoder: Chunked, wire: &[u8], piece: usize) -> Result<Decoded, BodyError> {
        let mut out = Vec::new();
        for piece in wire.chunks(piece.max(1)) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(data) = decoder.push(&mut input)? {
                out.extend_from_slice(&data);
            }
        }
        Ok((out, decoder.finish()?))
    }

    fn wire(chunks: &[Vec<u8>], trailers: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        out
    }

    proptest! {
        #[test]
        fn unsigned_bodies_decode_whatever_the_pieces(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
            piece in 1_usize..64,
        ) {
            let wire = wire(&chunks, "X-Amz-Checksum-CRC32:AAAAAA==\r\n");
            let (data, trailers) = decode(Chunked::new(None), &wire, piece).expect("it is well-formed");
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(trailers, vec![("x-amz-checksum-crc32".to_owned(), "AAAAAA==".to_owned())]);
        }

        #[test]
        fn every_truncation_before_the_last_chunk_is_noticed(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = wire(&chunks, "");
            let cut = cut.index(whole.len() - "0\r\n\r\n".len());
            prop_assert!(decode(Chunked::new(None), &whole[..cut], 7).is_err());
        }

        #[test]
        fn garbage_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..64) {
            let _ = decode(Chunked::new(None), &garbage, piece);
        }
    }

    /// The chunked upload of AWS's documentation: 66,560 times "a" in chunks of 64 KiB and 1 KiB.
    fn documented() -> (Chunked, Vec<u8>) {
        let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
        let signer = ChunkSigner::for_test(
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "20130524T000000Z",
            "us-east-1",
            seed,
        );
        let mut wire = Vec::new();
        for (size, signature) in [
            (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ] {
            wire.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
            wire.extend(std::iter::repeat_n(b'a', size));
            wire.extend_from_slice(b"\r\n");
        }
        (Chunked::new(Some(Box::new(signer))), wire)
    }

    #[test]
    fn the_documented_signed_upload_decodes() {
        let (decoder, wire) = documented();
        let (data, trailers) = decode(decoder, &wire, 1000).expect("it is signed");
        assert_eq!((data.len(), trailers.len()), (66_560, 0));
    }

    #[test]
    fn i4_any_flipped_byte_of_a_signed_upload_is_noticed() {
        for at in (0..).step_by(1013).take_while(|at| *at < documented().1.len()) {
            let (decoder, mut wire) = documented();
            wire[at] ^= 1;
            assert!(decode(decoder, &wire, 4096).is_err(), "byte {at}");
        }
    }

    #[test]
    fn signed_bodies_need_every_signature() {
        for (wire, error) in [
            ("5\r\nhello\r\n0\r\n\r\n", "Signature"),
            ("5;chunk-signature=00\r\nhello\r\n0\r\n\r\n", "Signature"),
            ("5;other=1\r\nhello\r\n", "Signature"),
        ] {
            let (decoder, _) = documented();
            let got = decode(decoder, wire.as_bytes(), 3).expect_err("nothing of it is signed");
            assert!(format!("{got:?}").starts_with(error), "{wire}: {got:?}");
        }
        let (decoder, mut wire) = documented();
        wire.truncate(wire.len() - 2);
        wire.extend_from_slice(b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        assert!(
            matches!(decode(decoder, &wire, 999), Err(BodyError::Signature)),
            "trailers without a signature"
        );
    }

    #[test]
    fn broken_codings_say_what_is_wrong() {
        for wire in
            ["zz\r\n", "5\r\nhelloX\r\n", "11111111111111111\r\n", "\r\n", "-1\r\n", "+5\r\nhello\r\n"]
        {
            let got = decode(Chunked::new(None), wire.as_bytes(), 2).expect_err("it is broken");
            assert!(matches!(got, BodyError::Coding(_)), "{wire:?}: {got:?}");
        }
        let endless = "1".repeat(2000);
        assert!(matches!(decode(Chunked::new(None), endless.as_bytes(), 100), Err(BodyError::Coding(_))));
    }
}
