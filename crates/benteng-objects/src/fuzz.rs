//! What the parsers of this crate must bear, as plain functions for the fuzzer in `tests/fuzz`, and one sample
//! of each message and file. Compiled with debug assertions only: no release holds any of it. A panic is a find.

use benteng_host::golden::Sample;
use benteng_meta::codec::{self, Versioned};
use benteng_meta::fuzz::versioned;
use benteng_meta::ids::*;

use crate::compare::Digest;
use crate::scrub::Pass;
use crate::wire::*;
use crate::{AskedRange, peers, range};

type Read = fn(&[u8]);

/// Messages of other nodes, and what this one keeps in its own form, in the order of [`message`]'s first byte.
const READERS: [(&str, Read); 15] = [
    ("put", versioned::<Put>),
    ("put_answer", versioned::<PutAnswer>),
    ("read", versioned::<crate::wire::Read>),
    ("fetch", versioned::<Fetch>),
    ("stat", versioned::<Stat>),
    ("stat_answer", versioned::<StatAnswer>),
    ("forget", versioned::<Forget>),
    ("report", versioned::<Report>),
    ("scrub_begun", versioned::<ScrubBegun>),
    ("digests", versioned::<Digests>),
    ("digests_answer", versioned::<DigestsAnswer>),
    ("list_of", versioned::<ListOf>),
    ("list_answer", versioned::<ListAnswer>),
    ("scrub_pass", versioned::<Pass>),
    ("peers", peers::check),
];

/// A message of another store, or a file of this one: the first byte says which.
pub fn message(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    if let Some((_, read)) = READERS.get(usize::from(*which)) {
        read(body);
    }
}

/// A range that a client asks for, of an object of any size: it is within the object or refused.
pub fn asked_range(asked: AskedRange, size: u64) {
    if let Ok(found) = range::resolve(asked, size) {
        assert!(found.start < found.end && found.end <= size, "{asked:?} of {size} bytes is {found:?}");
    }
}

fn chunk() -> ChunkId {
    ChunkId {
        blob: BlobId(uuid::Uuid::from_u128(0x0123)),
        part: PartNumber(2),
        attempt: Attempt(300),
        sequence: 4,
    }
}

/// How a node's store and loops are, each figure its own.
fn report() -> Report {
    Report {
        disk_total: 1,
        disk_free: 2,
        under_reserve: true,
        chunks: 3,
        chunk_bytes: 4,
        quarantined: 5,
        repaired: 6,
        repair_stuck: 7,
        filled: 8,
        filling: 9,
        to_fill: 10,
        copied_per_minute: 11,
        strays: 12,
        evicted: 13,
        compared_missing: 14,
        readers: 15,
        applied: StateSeq(16),
        scrub: ScrubReport {
            ended: 17,
            started: Some(SiteTime(18)),
            bytes: 19,
            total: 20,
            last_ended: Some(SiteTime(21)),
            found: 22,
            mended: 23,
            asked: true,
            segments_found: 24,
            log_found: 25,
            log_damaged: 26,
            log_mended: 27,
            store_given_up: 28,
        },
    }
}

/// The report alone: it has a version of its own.
pub fn reports() -> Vec<Sample> {
    vec![("report".to_owned(), codec::encode(&report()).to_vec())]
}

/// One of each message and file of version 1.
pub fn messages() -> Vec<Sample> {
    let mut out: Vec<Sample> = Vec::new();
    fn add<T: Versioned>(out: &mut Vec<Sample>, name: &str, message: &T) {
        out.push((name.to_owned(), codec::encode(message).to_vec()));
    }
    let origin = Origin { node: NodeId(3), incarnation: Incarnation(5), began: StateSeq(130) };
    let put = Put { id: chunk(), origin, frame_bytes: 65_552, frame_crcs: vec![1, u32::MAX] };
    add(&mut out, "put", &put);
    add(&mut out, "put_answer", &PutAnswer { store: StoreId(uuid::Uuid::from_u128(0x0456)) });
    let reader = Incarnation(5);
    add(&mut out, "read", &crate::wire::Read { id: chunk(), start: 1, end: 64, reader });
    add(&mut out, "fetch", &Fetch { id: chunk() });
    add(&mut out, "stat", &Stat { ids: vec![chunk()] });
    add(&mut out, "stat_answer", &StatAnswer { present: vec![true, false] });
    add(&mut out, "forget", &Forget { incarnation: Incarnation(5), ids: vec![chunk()] });
    add(&mut out, "scrub_begun", &ScrubBegun { pass: 6 });
    let groups = vec![PlacementGroup(1), PlacementGroup(1023)];
    add(&mut out, "digests", &Digests { groups: groups.clone() });
    let digest = Digest { chunks: 7, sum: u128::MAX - 8 };
    add(&mut out, "digests_answer", &DigestsAnswer { digests: vec![digest] });
    add(&mut out, "list_of", &ListOf { groups, after: Some(chunk()) });
    add(&mut out, "list_answer", &ListAnswer { ids: vec![chunk()], next: Some(chunk()) });
    add(&mut out, "scrub_pass", &Pass::sample(chunk()));
    out.push(("peers".to_owned(), peers::sample()));
    out
}

/// Reads the message of this name and writes it again.
#[cfg(test)]
fn again(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    fn plain<T: Versioned>(bytes: &[u8]) -> Result<Vec<u8>, String> {
        codec::decode::<T>(bytes).map(|message| codec::encode(&message).to_vec()).map_err(|e| e.to_string())
    }
    match name {
        "put" => plain::<Put>(bytes),
        "put_answer" => plain::<PutAnswer>(bytes),
        "read" => plain::<crate::wire::Read>(bytes),
        "fetch" => plain::<Fetch>(bytes),
        "stat" => plain::<Stat>(bytes),
        "stat_answer" => plain::<StatAnswer>(bytes),
        "forget" => plain::<Forget>(bytes),
        "report" => plain::<Report>(bytes),
        "scrub_begun" => plain::<ScrubBegun>(bytes),
        "digests" => plain::<Digests>(bytes),
        "digests_answer" => plain::<DigestsAnswer>(bytes),
        "list_of" => plain::<ListOf>(bytes),
        "list_answer" => plain::<ListAnswer>(bytes),
        "scrub_pass" => plain::<Pass>(bytes),
        "peers" => peers::again(bytes),
        other => Err(format!("nobody reads {other}")),
    }
}

#[cfg(test)]
mod tests {
    use benteng_host::golden::hold;

    use super::*;

    #[test]
    fn messages_and_files_are_written_as_ever_and_every_kept_one_is_read() {
        let samples = messages();
        assert_eq!(samples.len() + 1, READERS.len(), "a message without a sample");
        hold("message", 1, &samples, &again);
        hold("report", Report::VERSION, &reports(), &again);
    }
}
