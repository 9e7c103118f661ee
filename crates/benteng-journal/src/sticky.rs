//! The newest record of each sticky kind: what a checkpoint carries (J5) and the
//! watermark repeats (J7). Else a vote is lost with the segment that held it.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::options::{Carry, Sticky};

/// One carried record: kind, tag, and the plain body unless only the tag is carried.
pub(crate) type Carried = (u8, Bytes, Option<Bytes>);

/// Newest sticky records by kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stickies {
    what: BTreeMap<u8, Carry>,
    newest: BTreeMap<u8, (Bytes, Option<Bytes>)>,
}

impl Stickies {
    pub(crate) fn new(kinds: &[Sticky]) -> Stickies {
        Stickies { what: kinds.iter().map(|s| (s.kind, s.what)).collect(), newest: BTreeMap::new() }
    }

    /// How much of this kind is carried; `None`: nothing.
    pub(crate) fn carry(&self, kind: u8) -> Option<Carry> {
        self.what.get(&kind).copied()
    }

    /// Takes note of a newer record. `body` is the plain body where it is carried.
    pub(crate) fn note(&mut self, kind: u8, tag: Bytes, body: Option<Bytes>) {
        if let Some(what) = self.carry(kind) {
            let body = match what {
                Carry::Whole => Some(body.unwrap_or_default()),
                Carry::TagOnly => None,
            };
            self.newest.insert(kind, (tag, body));
        }
    }

    /// The newest records, by kind.
    pub(crate) fn list(&self) -> Vec<Carried> {
        self.newest.iter().map(|(kind, (tag, body))| (*kind, tag.clone(), body.clone())).collect()
    }
}

/// The slices of a raw body as one.
pub(crate) fn joined(parts: &[Bytes]) -> Bytes {
    match parts {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => {
            let mut out = BytesMut::new();
            many.iter().for_each(|part| out.extend_from_slice(part));
            out.freeze()
        }
    }
}
