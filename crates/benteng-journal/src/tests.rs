//! The journal on a machine of its own: rules J by name, crashes by chance, bytes by file.

mod bytes;
mod cipher;
mod crash;
mod life;
mod real;
mod rules;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::bytes::Bytes;
use uuid::Uuid;

use crate::tests::cipher::TestCipher;
use crate::tests::world::World;
use crate::{
    Body, Carry, Error, Journal, OnDamage, Opened, Options, Place, Record, ReleaseOrder, Replay, Replayed,
    SegmentNo, Sticky,
};

pub(crate) const STORE: Uuid = Uuid::from_u128(0x5157_0000_0000_0000_0000_0000_0000_0001);
pub(crate) const ENTRY: u8 = 1;
pub(crate) const VOTE: u8 = 2;

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/node/journal")
}

pub(crate) fn segment_path(number: u64) -> PathBuf {
    dir().join(crate::segment::segment_name(SegmentNo(number)))
}

pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 24 << 10,
        spares: 1,
        queue_bytes: 64 << 10,
        batch_bytes: 8 << 10,
        claim_after: Duration::from_millis(10),
        replay: Replay::Bodies,
        replay_from: SegmentNo(0),
        sticky: vec![Sticky { kind: VOTE, what: Carry::Whole }, Sticky { kind: ENTRY, what: Carry::TagOnly }],
        release: ReleaseOrder::OldestFirst,
        on_damage: OnDamage::Fail,
    }
}

/// A journal under test: its machine, and a cipher that never allows a nonce twice.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) cipher: Arc<TestCipher>,
    pub(crate) options: Options,
}

impl Bench {
    pub(crate) fn new(seed: u64) -> Bench {
        Bench { world: World::new(seed), cipher: Arc::default(), options: small() }
    }

    pub(crate) async fn open(&self) -> Result<(Journal, Opened, Vec<Replayed>), Error> {
        let mut seen = Vec::new();
        let (journal, opened) = Journal::open(
            self.world.host(),
            dir(),
            STORE,
            self.options.clone(),
            self.cipher.clone(),
            &mut |record| {
                seen.push(record);
                Ok(())
            },
        )
        .await?;
        Ok((journal, opened, seen))
    }

    /// Opens, runs, and ends like kill -9: what is in the page cache stays.
    pub(crate) fn boot<T>(&self, run: impl AsyncFnOnce(Journal, Opened, Vec<Replayed>) -> T) -> Option<T> {
        self.world.run(async {
            let (journal, opened, seen) = self.open().await.expect("the journal opens");
            run(journal, opened, seen).await
        })
    }

    /// Why the journal does not open.
    pub(crate) fn refusal(&self) -> Error {
        let opened = self.world.run(async { self.open().await.map(|(_, opened, _)| opened) });
        opened.expect("no crash").expect_err("the journal must not open")
    }

    pub(crate) fn seen(&self) -> Vec<Replayed> {
        self.boot(async |_, _, seen| seen).expect("no crash")
    }
}

pub(crate) fn entry(text: &str) -> Record {
    Record { kind: ENTRY, tag: Bytes::copy_from_slice(text.as_bytes()), body: Body::Seal(body_of(text)) }
}

pub(crate) fn body_of(text: &str) -> Bytes {
    Bytes::from(text.repeat(20))
}

pub(crate) fn vote(text: &str) -> Record {
    Record { kind: VOTE, tag: Bytes::new(), body: Body::Seal(Bytes::copy_from_slice(text.as_bytes())) }
}

pub(crate) async fn append(journal: &Journal, text: &str) -> Place {
    let pending = journal.submit(vec![entry(text)]).await.expect("the journal runs");
    pending.await.expect("the record is durable")[0]
}

/// The tags of the entries, as text.
pub(crate) fn tags(seen: &[Replayed]) -> Vec<String> {
    let entries = seen.iter().filter(|record| record.kind == ENTRY);
    entries.map(|record| String::from_utf8_lossy(&record.tag).into_owned()).collect()
}

pub(crate) fn assert_damaged(error: &Error, segment: u64) {
    match error {
        Error::Damaged { segment: found, .. } => assert_eq!(found.0, segment, "{error}"),
        other => panic!("expected damage, found: {other}"),
    }
}
