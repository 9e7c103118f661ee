//! Cuts a request body into pieces of the size of a chunk, whatever sizes it comes in.

use benteng_keys::{CHUNK_PLAIN, Last};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use crate::{BodyIn, Error, Result};

/// Pieces below this are gathered in one buffer: a body that comes byte by byte must not
/// cost a handle per byte.
const GATHER: usize = 16 << 10;

/// Plain bytes of one chunk, in pieces as they came.
pub(crate) struct Cut {
    /// The pieces, 1 B to 4 MiB together.
    pub(crate) pieces: Vec<Bytes>,
    /// Their length in bytes.
    pub(crate) len: usize,
    /// Whether the body ends with them.
    pub(crate) last: Last,
}

/// Cuts one body.
pub(crate) struct Cutter {
    body: BodyIn,
    declared: Option<u64>,
    limit: u64,
    total: u64,
    /// What came beyond the last cut.
    carry: Bytes,
    ended: bool,
}

impl Cutter {
    /// Cuts `body`, which must have `declared` bytes if that is said, and may have `limit`.
    pub(crate) fn new(body: BodyIn, declared: Option<u64>, limit: u64) -> Cutter {
        Cutter { body, declared, limit, total: 0, carry: Bytes::new(), ended: false }
    }

    /// Bytes that came so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// How many bytes the next cut takes at most, as far as that is known.
    pub(crate) fn expected(&self) -> usize {
        let cut = u64::try_from(CHUNK_PLAIN).unwrap_or(u64::MAX);
        let carried = u64::try_from(self.carry.len()).unwrap_or(u64::MAX);
        let left = self.declared.map_or(cut, |n| n.saturating_sub(self.total).saturating_add(carried));
        usize::try_from(left.min(cut)).unwrap_or(CHUNK_PLAIN)
    }

    /// The next cut; `None` behind the end. All but the last have exactly 4 MiB.
    ///
    /// Errors: `Body`, `Length`, `TooLarge`. Cancellation: the body is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Cut>> {
        let mut gathered = Gathered::default();
        gathered.push(std::mem::take(&mut self.carry));
        // One byte more than a chunk tells that this one is not the last.
        while gathered.len <= CHUNK_PLAIN && !self.ended {
            match self.body.next().await {
                Some(Ok(piece)) => {
                    self.count(piece.len())?;
                    gathered.push(piece);
                }
                Some(Err(e)) => return Err(Error::Body(e)),
                None => self.end()?,
            }
        }
        let last = if gathered.len <= CHUNK_PLAIN { Last::Yes } else { Last::No };
        let (pieces, len, carry) = gathered.cut(CHUNK_PLAIN);
        self.carry = carry;
        Ok((len > 0).then_some(Cut { pieces, len, last }))
    }

    fn count(&mut self, n: usize) -> Result<()> {
        self.total = self.total.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        if let Some(declared) = self.declared.filter(|declared| self.total > *declared) {
            return Err(Error::Length { declared, got: self.total });
        }
        if self.total > self.limit {
            return Err(Error::TooLarge { limit: self.limit });
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.ended = true;
        match self.declared {
            Some(declared) if declared != self.total => Err(Error::Length { declared, got: self.total }),
            _ => Ok(()),
        }
    }
}

#[derive(Default)]
struct Gathered {
    pieces: Vec<Bytes>,
    small: BytesMut,
    len: usize,
}

impl Gathered {
    fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        if piece.len() < GATHER {
            self.small.extend_from_slice(&piece);
        } else {
            self.flush();
            self.pieces.push(piece);
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    /// Pieces of at most `at` bytes together, their length, and the rest. The rest is within
    /// the last piece: gathering stops with the piece that passes `at`.
    fn cut(mut self, at: usize) -> (Vec<Bytes>, usize, Bytes) {
        self.flush();
        let over = self.len.saturating_sub(at);
        let carry = match self.pieces.last_mut() {
            Some(last) if over > 0 => last.split_off(last.len() - over),
            _ => Bytes::new(),
        };
        (self.pieces, self.len - over, carry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::BodyError;

    fn body(pieces: Vec<Bytes>) -> BodyIn {
        Box::pin(futures::stream::iter(pieces.into_iter().map(Ok)))
    }

    async fn cut_all(mut cutter: Cutter) -> Result<Vec<(Vec<u8>, Last)>> {
        let mut out = Vec::new();
        while let Some(cut) = cutter.next().await? {
            assert_eq!(cut.len, cut.pieces.iter().map(Bytes::len).sum::<usize>());
            out.push((cut.pieces.concat(), cut.last));
        }
        Ok(out)
    }

    fn check(pieces: Vec<Bytes>) {
        let whole = pieces.concat();
        let cuts = futures::executor::block_on(cut_all(Cutter::new(
            body(pieces),
            Some(whole.len() as u64),
            u64::MAX,
        )))
        .expect("a whole body");
        assert_eq!(cuts.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<u8>>(), whole);
        for (i, (bytes, last)) in cuts.iter().enumerate() {
            let is_last = i + 1 == cuts.len();
            assert_eq!(*last == Last::Yes, is_last, "cut {i} of {}", cuts.len());
            assert!(is_last || bytes.len() == CHUNK_PLAIN, "K2: only the last cut is shorter");
            assert!((1..=CHUNK_PLAIN).contains(&bytes.len()));
        }
    }

    #[test]
    fn bodies_are_cut_at_whole_chunks_whatever_pieces_they_come_in() {
        let block = |n: usize| Bytes::from((0..n).map(|i| (i % 251) as u8).collect::<Vec<u8>>());
        check(vec![]);
        check(vec![block(1)]);
        check(vec![block(CHUNK_PLAIN)]);
        check(vec![block(CHUNK_PLAIN), block(1)]);
        check(vec![block(CHUNK_PLAIN - 1), block(1), block(1)]);
        check(vec![block(3 * CHUNK_PLAIN + 5)]);
        check(vec![Bytes::new(), block(7), Bytes::new()]);
        check((0..70).map(|_| block(65_537)).collect());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_mix_of_pieces_comes_back_whole(sizes in proptest::collection::vec(prop_oneof![0_usize..40, 15_000_usize..20_000, 0_usize..9_000_000], 0..5)) {
            check(sizes.into_iter().map(|n| Bytes::from(vec![7; n])).collect());
        }
    }

    #[test]
    fn a_body_of_another_length_than_declared_is_refused() {
        let run = |declared, limit| {
            let cutter = Cutter::new(body(vec![Bytes::from_static(b"1234")]), declared, limit);
            futures::executor::block_on(cut_all(cutter))
        };
        assert!(matches!(run(Some(3), 100), Err(Error::Length { declared: 3, got: 4 })));
        assert!(matches!(run(Some(5), 100), Err(Error::Length { declared: 5, got: 4 })));
        assert!(matches!(run(None, 3), Err(Error::TooLarge { limit: 3 })));
        assert!(run(None, 4).is_ok());
    }

    #[test]
    fn a_body_that_breaks_off_is_no_body() {
        let pieces = vec![Ok(Bytes::from_static(b"12")), Err(BodyError::Incomplete)];
        let cutter = Cutter::new(Box::pin(futures::stream::iter(pieces)), None, 100);
        let end = futures::executor::block_on(cut_all(cutter));
        assert!(matches!(end, Err(Error::Body(BodyError::Incomplete))), "{end:?}");
    }
}
