//! Journals on a machine in memory whose files were changed: recovery, reading and damage (J2, J3, I4).

#[path = "../../../crates/benteng-journal/src/tests/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use benteng_host::Open;
use benteng_journal::{
    Body, Carry, Error, Journal, NoCipher, OnDamage, Options, Record, ReleaseOrder, Replay, SegmentNo, Sticky,
};
use bytes::Bytes;
use uuid::Uuid;

use world::World;

const STORE: Uuid = Uuid::from_u128(0x5157_0000_0000_0000_0000_0000_0000_0001);
const DIR: &str = "/node/journal";
/// Sealed by nobody here: what stands in a record is as it is in the file.
const ENTRY: u8 = 1;
const VOTE: u8 = 2;

fn options(on_damage: OnDamage) -> Options {
    Options {
        segment_bytes: 16 << 10,
        spares: 0,
        queue_bytes: 64 << 10,
        batch_bytes: 8 << 10,
        claim_after: Duration::from_millis(10),
        replay: Replay::Bodies,
        replay_from: SegmentNo(0),
        sticky: vec![Sticky { kind: VOTE, what: Carry::Whole }, Sticky { kind: ENTRY, what: Carry::TagOnly }],
        release: ReleaseOrder::OldestFirst,
        on_damage,
    }
}

/// What a record says: kind, tag, body.
type Said = (u8, Vec<u8>, Option<Vec<u8>>);

fn record(kind: u8, text: &str) -> Record {
    let tag = if kind == VOTE { Bytes::new() } else { Bytes::copy_from_slice(text.as_bytes()) };
    Record { kind, tag, body: Body::Seal(Bytes::from(text.repeat(20))) }
}

async fn open(world: &World, on_damage: OnDamage) -> Result<(Journal, Vec<Said>), Error> {
    let mut said = Vec::new();
    let visit = &mut |replayed: benteng_journal::Replayed| {
        said.push((replayed.kind, replayed.tag.to_vec(), replayed.body.map(|body| body.to_vec())));
        Ok(())
    };
    let cipher = Arc::new(NoCipher);
    let (journal, _) =
        Journal::open(world.host(), DIR.into(), STORE, options(on_damage), cipher, visit).await?;
    Ok((journal, said))
}

/// A journal of three segments, a vote and a release in it, that ended like kill -9; and what it says.
struct Sample {
    files: Vec<(PathBuf, Vec<u8>)>,
    said: Vec<Said>,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let world = World::new(1);
        let write = async {
            let (journal, _) = open(&world, OnDamage::Fail).await.expect("a new journal opens");
            for text in ["a", "b"] {
                let pending =
                    journal.submit(vec![record(ENTRY, text), record(VOTE, text)]).await.expect("it runs");
                pending.await.expect("durable");
            }
            journal.roll().await.expect("it rolls");
            for text in ["c", "d"] {
                journal.submit(vec![record(ENTRY, text)]).await.expect("it runs").await.expect("durable");
            }
            benteng_host::sleep(&*world.host().clock, Duration::from_secs(1)).await;
        };
        world.run(write).expect("no crash");
        let read = |path: &PathBuf| (path.clone(), world.contents(path));
        let files: Vec<(PathBuf, Vec<u8>)> = world.files().iter().map(read).collect();
        let again = laid(&files);
        let said = again.run(async { open(&again, OnDamage::Fail).await.map(|(_, said)| said) });
        let said = said.expect("no crash").expect("it opens as it was written");
        assert_eq!(said.iter().filter(|(kind, ..)| *kind == ENTRY).count(), 4, "all four entries are there");
        Sample { files, said }
    })
}

/// A machine with these files.
fn laid(files: &[(PathBuf, Vec<u8>)]) -> World {
    let world = World::new(2);
    let disk = world.host().disk;
    let lay = async {
        disk.create_dir_all(Path::new(DIR)).await.expect("a folder can be made");
        for (path, bytes) in files {
            let file = disk.open(path, Open::CreateNew).await.expect("a new file");
            file.write_at(0, vec![Bytes::copy_from_slice(bytes)]).await.expect("room for it");
            file.sync_data().await.expect("it syncs");
        }
        disk.sync_dir(Path::new(DIR)).await.expect("it syncs");
    };
    world.run(lay).expect("no crash");
    world
}

/// The first byte: 1 makes all checksums right again, 2 lists damage rather than failing, 4 cuts the file at
/// the first place named; the second picks a file. Then changes: place in two bytes, how many bytes, these.
pub(crate) fn journal(bytes: &[u8]) {
    let [how, which, changes @ ..] = bytes else { return };
    let sample = sample();
    let mut files = sample.files.clone();
    let at = usize::from(*which) % files.len();
    let (path, file) = &mut files[at];
    let mut rest = changes;
    if how & 4 != 0
        && let Some((cut, behind)) = rest.split_first_chunk::<2>()
    {
        file.truncate(usize::from(u16::from_be_bytes(*cut)));
        rest = behind;
    }
    while let Some((head, behind)) = rest.split_first_chunk::<3>() {
        let [high, low, len] = *head;
        let (change, later) = behind.split_at(usize::from(len).min(behind.len()));
        rest = later;
        let from = usize::from(u16::from_be_bytes([high, low])).min(file.len());
        let n = change.len().min(file.len() - from);
        file[from..from + n].copy_from_slice(&change[..n]);
    }
    let mended = how & 1 != 0;
    if mended {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        benteng_journal::fuzz::mend(&name, file);
    }
    let on_damage = if how & 2 != 0 { OnDamage::List } else { OnDamage::Fail };
    let world = laid(&files);
    let opened = world.run(async {
        let (journal, said) = open(&world, on_damage).await?;
        // It goes on: what is appended now is there at the next start.
        let pending = journal.submit(vec![record(ENTRY, "new")]).await?;
        pending.await?;
        Ok::<_, Error>(said)
    });
    let Some(opened) = opened else { panic!("the process ended itself: {:?}", world.aborted()) };
    let said = match opened {
        Err(Error::Damaged { .. }) => return,
        // A visitor that refuses is none of ours; all else must not come of bytes in a file.
        Err(other) => panic!("{other}"),
        Ok(said) => said,
    };
    if mended {
        return;
    }
    // I4: nothing is shown that was not written, and without a list of damage all of it.
    assert!(said.iter().all(|record| sample.said.contains(record)), "I4: a record that nobody wrote");
    assert!(on_damage == OnDamage::List || said == sample.said, "J2: a record is gone and nobody says so");
}
