//! What rots at rest: in the log, in rows that nobody reads, in copies whose checksums are right; and what a read
//! makes of copies that are gone, or that move under it (I4).

use std::path::{Path, PathBuf};
use std::time::Duration;

use benteng_chunks::NewChunk;
use benteng_host::planted::Bug;
use benteng_meta::ids::{ChunkId, NodeId, PartNumber};
use benteng_meta::{Body, key, query};

use super::Scenario;
use crate::door::{Ask, BUCKET, Say};
use crate::plan::Plan;
use crate::stage::{Played, Stage, broken};
use crate::{Ending, SimDisk};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new("i4_rot_in_the_log_is_found_and_purged", &[Bug::ScrubBlind], rot_in_the_log)
        .with(scrubbing),
    Scenario::new("i4_rot_in_the_watermark_is_found_and_mended", &[Bug::ScrubBlind], rot_in_the_watermark)
        .with(scrubbing),
    Scenario::new("i4_rot_beside_the_chunks_is_found_and_mended", &[Bug::ScrubBlind], rot_beside_the_chunks)
        .with(scrubbing),
    Scenario::new("i4_rot_in_a_row_that_nobody_reads", &[Bug::ScrubBlind], rot_in_a_row).with(scrubbing),
    Scenario::new("i4_copies_that_only_authentication_tells", &[], copies_that_only_authentication_tells),
    Scenario::new("i4_a_chunk_that_is_gone_everywhere", &[], a_chunk_that_is_gone_everywhere),
    Scenario::new("i4_a_read_follows_a_chunk_that_moves", &[], a_read_follows_a_chunk_that_moves)
        .with(small_chunk_segments),
];

fn scrubbing() -> Plan {
    Plan { scrub: Duration::from_secs(20), log_segment: 128 << 10, ..Plan::calm() }
}

fn small_chunk_segments() -> Plan {
    Plan { chunk_segment: 9 << 20, ..Plan::calm() }
}

/// Segments of a node's log, oldest first, with where what was written to them ends.
fn log_segments(stage: &Stage, node: u64) -> Result<Vec<(PathBuf, u64)>, String> {
    let mut files = stage.machine(node)?.disk.written(Path::new("/data/raft"));
    files.retain(|(path, _)| path.extension().is_some_and(|end| end == "seg"));
    Ok(files)
}

/// A closed segment of a follower, then the one that is written to, then one of the leader: each is purged, and a
/// start meets none of it any more.
fn rot_in_the_log(stage: &mut Stage) -> Played {
    let write = |stage: &mut Stage, from: u64| -> Played {
        for n in 0..40 {
            stage.put(1 + n % 3, &format!("kunci-{}", n % 5), from + n, 7000)?;
        }
        stage.converges()
    };
    write(stage, 1000)?;
    let (leader, one, other) = stage.followers()?;
    for (round, node, newest) in [(1, one, false), (2, other, true), (3, leader, false)] {
        let segments = log_segments(stage, node)?;
        if segments.len() < 3 {
            broken!("the log of node {node} has {} segments", segments.len());
        }
        let (path, end) = &segments[if newest { segments.len() - 1 } else { 1 }];
        let found = stage.count("log_damage_found");
        stage.machine(node)?.disk.flip(path, 4096 + (end - 4096) / 2, 16);
        stage.reaches("log_damage_found", found, 60)?;
        stage.until("the damaged part of the log is purged", 30, |stage| {
            let status = stage.node(node).map(|node| node.group().status()).unwrap_or_default();
            (status.log_damaged, status.log_mended) == (0, 1)
        })?;
        stage.restart(node)?;
        stage.until("it serves again", 30, |stage| stage.site.node(node).is_some())?;
        write(stage, 1000 + 100 * round)?;
    }
    Ok(())
}

/// At the next start the watermark would be damage: the scrub finds it before.
fn rot_in_the_watermark(stage: &mut Stage) -> Played {
    stage.put(1, "kunci", 700, 7000)?;
    let (_, one, _) = stage.followers()?;
    let found = stage.count("log_damage_found");
    if !stage.machine(one)?.disk.flip(Path::new("/data/raft/watermark"), 30, 4) {
        broken!("there is no watermark");
    }
    stage.reaches("log_damage_found", found, 60)?;
    stage.ms(500)?;
    stage.restart(one)?;
    stage.until("it serves again", 30, |stage| stage.site.node(one).is_some())?;
    stage.converges()
}

/// What lies beside the chunks is read by a start alone: together with a damaged state it would cost the node its disks.
fn rot_beside_the_chunks(stage: &mut Stage) -> Played {
    stage.put(1, "kunci", 700, 20_000)?;
    stage.converges()?;
    let (_, one, _) = stage.followers()?;
    for (file, at) in [("store", 12), ("watermark", 30)] {
        let mended = stage.count("chunk_store_mended_beside");
        if !stage.machine(one)?.disk.flip(&Path::new("/data/chunks").join(file), at, 4) {
            broken!("there is no {file}");
        }
        stage.reaches("chunk_store_mended_beside", mended, 90)?;
    }
    stage.ms(500)?;
    stage.restart(one)?;
    stage.until("it serves again", 30, |stage| stage.site.node(one).is_some())?;
    stage.reads(one, "kunci", 700)
}

/// Nothing applies to the row and nobody asks for it: the scrub must find it, and the node builds its state anew.
fn rot_in_a_row(stage: &mut Stage) -> Played {
    for n in 0..30 {
        stage.put(1 + n % 3, &format!("kunci-{n}"), 700 + n, 20_000)?;
    }
    stage.converges()?;
    let (_, one, _) = stage.followers()?;
    let machine = stage.machine(one)?;
    let blobs = key::table(key::Table::Blob);
    let rows =
        |key: &[u8]| key.first() == Some(&b's') && key.get(9..).is_some_and(|row| row.starts_with(&blobs));
    machine.kv.flip(&mut stage.rng, rows).ok_or("there is no row")?;
    match stage.ends(one, 60)? {
        Ending::Stopped(why) if why.contains("S6") => {}
        other => broken!("S6: the scrub met a row that has rotted, and then {other:?}"),
    }
    stage.watch.expected.remove(&one);
    stage.restart(one)?;
    stage.until("it serves again", 60, |stage| stage.site.node(one).is_some())?;
    stage.converges()?;
    let given_up = stage.node(one)?.group().status().store_given_up;
    if given_up != 1 || machine.kv.is_rotten() {
        broken!("S6: the store was given up {given_up} times");
    }
    for n in 0..30 {
        stage.reads(one, &format!("kunci-{n}"), 700 + n)?;
    }
    Ok(())
}

/// The first chunk of an object, and the nodes that hold it.
fn chunk_of(stage: &Stage, key: &str) -> Result<(ChunkId, Vec<u64>), String> {
    let view = stage.view(1)?;
    let state = |e: benteng_meta::Error| e.to_string();
    let bucket = query::bucket(&*view, BUCKET).map_err(state)?.ok_or("no bucket")?;
    let object = query::object(&*view, bucket.id, key).map_err(state)?.ok_or("no object")?;
    let blob = query::blob(&*view, object.blob).map_err(state)?.ok_or("no blob")?;
    let Body::Single(part) = blob.body else { broken!("{key} is not one part in chunks") };
    let chunk = ChunkId { blob: object.blob, part: PartNumber(1), attempt: part.attempt, sequence: 0 };
    let row = query::placement(&*view, chunk.placement_group()).map_err(state)?;
    Ok((chunk, row.current.into_iter().map(|NodeId(node)| node).collect()))
}

/// A node's copy goes, and its node does not know why.
fn take_copy(stage: &mut Stage, node: u64, chunk: ChunkId) -> Played {
    stage.watch.robbed.insert(node);
    let store = stage.node(node)?.store().clone();
    stage.run(async move { store.evict(vec![chunk]).await.map_err(|e| e.to_string()) })?
}

/// In place of a node's copy stand the bytes of another chunk, with checksums that are right for them.
fn forge_copy(stage: &mut Stage, node: u64, chunk: ChunkId, like: ChunkId) -> Played {
    take_copy(stage, node, chunk)?;
    let store = stage.node(node)?.store().clone();
    let forged = async move {
        let header = store.header(like).await?;
        let bytes = vec![store.read(like, 0..header.frames()).await?];
        let benteng_chunks::ChunkHeader { origin, frame_bytes, frame_crcs, .. } = header;
        store.append(NewChunk { id: chunk, origin, frame_bytes, frame_crcs, bytes }).await
    };
    stage.run(async move { forged.await.map_err(|e: benteng_chunks::Error| e.to_string()) })?
}

/// A peer, the repair and a reader meet a copy that is not what was written, though its checksums are right.
fn copies_that_only_authentication_tells(stage: &mut Stage) -> Played {
    stage.put(1, "asli", 700, 60_000)?;
    stage.put(1, "lain", 701, 60_000)?;
    stage.converges()?;
    let (chunk, holders) = chunk_of(stage, "asli")?;
    let (like, _) = chunk_of(stage, "lain")?;
    let [first, second, third] = holders[..] else { broken!("{} holders", holders.len()) };
    // The third lacks its copy, and the first one that it asks gives it a forged one.
    forge_copy(stage, first, chunk, like)?;
    take_copy(stage, third, chunk)?;
    stage.reaches("peer_copy_did_not_authenticate", 0, 60)?;
    stage.reaches("own_copy_did_not_authenticate", 0, 60)?;
    let good = |stage: &Stage| {
        holders.iter().all(|node| {
            stage.node(*node).is_ok_and(|node| {
                node.store().quarantined().is_empty() && matches!(node.store().stat(chunk), Ok(Some(_)))
            })
        })
    };
    stage.until("all copies are good", 60, good)?;
    forge_copy(stage, second, chunk, like)?;
    stage.reads(second, "asli", 700)?;
    stage.reaches("copy_did_not_authenticate", 0, 10)?;
    stage.until("the copy that a reader met is good", 60, |stage| {
        stage.count("own_copy_did_not_authenticate") >= 2 && good(stage)
    })?;
    stage.watch.robbed.clear();
    for node in 1..=3 {
        stage.reads(node, "asli", 700)?;
    }
    stage.converges()
}

/// Every copy is lost: the answer is an error that says so, never other bytes, and the key can be written anew.
fn a_chunk_that_is_gone_everywhere(stage: &mut Stage) -> Played {
    stage.put(1, "hilang", 700, 60_000)?;
    stage.converges()?;
    let (chunk, holders) = chunk_of(stage, "hilang")?;
    for node in holders {
        take_copy(stage, node, chunk)?;
    }
    match stage.ask(2, Ask::Get { key: "hilang".into(), pause: 0 })? {
        Some(Say::Failed(why)) if why.contains("gone") => {}
        other => broken!("I4: an object whose only chunk is gone was answered {other:?}"),
    }
    if stage.count("chunk_gone") == 0 || stage.count("looked_up_again") == 0 {
        broken!("O5: nobody looked the row up again");
    }
    stage.put(2, "hilang", 701, 60_000)?;
    stage.watch.robbed.clear();
    for node in 1..=3 {
        stage.reads(node, "hilang", 701)?;
    }
    stage.converges()
}

/// Segments that hold a chunk of some size.
fn chunk_segments(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let mut files = disk.written(Path::new("/data/chunks"));
    files.retain(|(path, end)| path.extension().is_some_and(|end| end == "seg") && *end > 1 << 20);
    files
}

/// Cleaning has copied a chunk, the original rots, and readers that began at the original end after the switch.
fn a_read_follows_a_chunk_that_moves(stage: &mut Stage) -> Played {
    stage.put(1, "sampah", 700, 4 << 20)?;
    stage.put(1, "pindah", 701, 4 << 20)?;
    // In the next segment: the first one is closed.
    stage.put(1, "lain", 702, 4 << 20)?;
    stage.converges()?;
    let (_, one, _) = stage.followers()?;
    let disk = stage.machine(one)?.disk.clone();
    let store = stage.node(one)?.store().id().0.as_u128();
    stage.probes.facts(|facts| facts.damaged(store));
    // Half of the segment dies; the other half is copied out of it.
    let slow = |from: u64, to: u64| Duration::from_millis(from)..=Duration::from_millis(to);
    disk.set_latency(slow(0, 0), slow(900, 900));
    disk.set_read_latency(slow(300, 300));
    let before = chunk_segments(&disk);
    let [(old, end), _] = &before[..] else { broken!("{} chunk segments", before.len()) };
    let written = |disk: &SimDisk| -> u64 { chunk_segments(disk).into_iter().map(|(_, end)| end).sum() };
    let more = written(&disk) + (3 << 20);
    stage.put(1, "sampah", 703, 500)?;
    stage.until("cleaning has written the copy", 60, |stage| {
        stage.sim.elapsed().as_millis() % 20 == 0 && written(&disk) > more
    })?;
    disk.flip(old, end - 40_000, 8);
    // The sync of the copy takes 900 ms and reading it back 300 more: who begins in between ends behind the switch.
    // Not earlier: what the first one reports is a command, and the others would wait until it is durable here.
    stage.ms(900)?;
    let mut readers = Vec::new();
    for _ in 0..12 {
        readers.push(stage.start(one, Ask::Get { key: "pindah".into(), pause: 0 })?);
        stage.ms(20)?;
    }
    for reader in readers {
        match stage.finish(&reader, 60)? {
            Some(Say::Got(Some((701, _)))) => {}
            other => broken!("I4: a chunk that moved was read as {other:?}"),
        }
    }
    stage.reaches("chunk_read_follows_cleaning", 0, 1)?;
    disk.set_latency(slow(0, 0), slow(0, 0));
    disk.set_read_latency(slow(0, 0));
    stage.converges()
}
