//! Nodes are drained and removed while clients go on; damage that checksums do not see; scrub now.

use std::sync::atomic::{AtomicBool, Ordering};

use benteng_chunks::NewChunk;
use benteng_meta::ids::*;
use benteng_meta::{Command, NodeState};
use benteng_objects::*;
use bytes::Bytes;

use crate::harness::*;

/// Writes objects of three sizes until it is told to stop; returns what was acknowledged.
async fn load(objects: Objects, bucket: Bucket, stop: &AtomicBool) -> Vec<(String, Bytes)> {
    let mut written = Vec::new();
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, bytes) = (format!("load/{n}"), block(n, [900, 90_000, 900_000][n as usize % 3]));
        // A leader that is handed over refuses for a moment; what is refused is not there.
        if put(&objects, &bucket, &key, &bytes).await.is_ok() {
            written.push((key, bytes));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    written
}

async fn view(site: &Site, id: u64) -> NodeView {
    let status = site.any().objects().status().await.unwrap();
    status.nodes.into_iter().find(|view| view.node == NodeId(id)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o3_a_leader_is_drained_under_load_and_gives_its_room_back() {
    let mut site = Site::of(4).await;
    let bucket = site.node(1).objects().create_bucket("data", "ani").await.unwrap();
    let leader = site.node(1).group().leader().unwrap().0;
    let other = if leader == 4 { 3 } else { 4 };
    let stop = AtomicBool::new(false);
    let drained = async {
        until("some objects", async || site.node(leader).store().usage().chunks > 10).await;
        let drain = Command::SetNodeState { node: NodeId(leader), state: NodeState::Draining };
        site.node(other).group().propose(drain, None).await.unwrap();
        until("the drain", async || {
            let view = view(&site, leader).await;
            view.groups == 0 && !view.voter && !view.leader
        })
        .await;
        stop.store(true, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(load(site.node(other).objects(), bucket.clone(), &stop), drained);
    assert!(written.len() > 20, "{} objects were written", written.len());
    // What died and what was given up leave nothing: the node holds no live chunk.
    until("room", async || site.node(leader).store().usage().chunks == 0).await;
    let evicted = view(&site, leader).await.report.unwrap().evicted;
    assert!(evicted > 5, "{evicted} chunks were given up");
    let remove = Command::RemoveNode { node: NodeId(leader), lost: false, accept_one_voter: false };
    site.node(other).group().propose(remove, None).await.unwrap();
    site.stop(leader).await;
    site.settled().await;
    for objects in site.all() {
        for (key, bytes) in &written {
            assert_eq!(get(&objects, &bucket, key).await.unwrap(), bytes, "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_three_copies_are_not_drained_to_two_nodes() {
    let mut site = Site::of(3).await;
    let bucket = site.node(1).objects().create_bucket("data", "ani").await.unwrap();
    let bytes = block(1, 300_000);
    put(&site.node(1).objects(), &bucket, "k", &bytes).await.unwrap();
    let drain = Command::SetNodeState { node: NodeId(3), state: NodeState::Draining };
    site.node(1).group().propose(drain, None).await.unwrap();
    for _ in 0..10 {
        let view = view(&site, 3).await;
        assert_eq!((view.groups, view.voter), (1024, true), "nobody can take its place");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let reasons = site.any().objects().status().await.unwrap().reasons;
    assert!(reasons.iter().any(|why| why.contains("cannot be drained")), "{reasons:?}");
    // A fourth node takes it.
    site.add(None).await;
    until("the drain", async || {
        let view = view(&site, 3).await;
        view.groups == 0 && !view.voter
    })
    .await;
    site.stop(3).await;
    let lost = Command::RemoveNode { node: NodeId(3), lost: true, accept_one_voter: false };
    site.any().group().propose(lost, None).await.unwrap();
    site.settled().await;
    assert_eq!(get(&site.any().objects(), &bucket, "k").await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_a_dead_node_is_removed_and_one_voter_is_accepted() {
    let mut site = Site::of(3).await;
    let bucket = site.node(1).objects().create_bucket("data", "ani").await.unwrap();
    let bytes = block(1, 300_000);
    put(&site.node(1).objects(), &bucket, "k", &bytes).await.unwrap();
    site.stop(3).await;
    let remove = |accept_one_voter| Command::RemoveNode { node: NodeId(3), lost: true, accept_one_voter };
    let group = site.any().group().clone();
    until("a refusal by the leader that is left", async || {
        let refused = group.propose(remove(false), None).await.err();
        refused.is_some_and(|e| e.to_string().contains("--accept-one-voter"))
    })
    .await;
    group.propose(remove(true), None).await.unwrap();
    until("two copies and one vote", async || {
        let status = site.any().objects().status().await.unwrap();
        let voters = status.nodes.iter().filter(|node| node.voter).count();
        (status.copies, status.copies_min, voters, status.healthy) == (2, 2, 1, true)
    })
    .await;
    put(&site.any().objects(), &bucket, "after", &bytes).await.unwrap();
    // And back to three.
    site.add(None).await;
    site.settled().await;
    until("three votes", async || {
        site.any().objects().status().await.unwrap().nodes.iter().filter(|node| node.voter).count() == 3
    })
    .await;
    for objects in site.all() {
        assert_eq!(get(&objects, &bucket, "k").await.unwrap(), bytes);
        assert_eq!(get(&objects, &bucket, "after").await.unwrap(), bytes);
    }
}

/// Puts other bytes in the place of a chunk of node 1, with checksums that are right for them.
async fn forge(site: &Site, chunk: ChunkId) {
    let store = site.node(1).store();
    let header = store.header(chunk).await.unwrap();
    let mut bytes = store.read(chunk, 0..header.frames()).await.unwrap().to_vec();
    bytes[70_000] ^= 1;
    let bytes = Bytes::from(bytes);
    let frame = usize::try_from(header.frame_bytes).unwrap();
    let frame_crcs = bytes.chunks(frame).map(crc_fast::crc32_iscsi).collect();
    let (origin, frame_bytes) = (header.origin, header.frame_bytes);
    store.doubt(chunk).await.unwrap();
    store.append(NewChunk { id: chunk, origin, frame_bytes, frame_crcs, bytes: vec![bytes] }).await.unwrap();
    assert!(store.stat(chunk).unwrap().is_some_and(|info| !info.quarantined), "nothing is to be seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_copy_with_lying_checksums_is_replaced_by_one_that_authenticates() {
    let site = Site::of(3).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    let bytes = block(1, 3_000_000);
    put(&objects, &bucket, "k", &bytes).await.unwrap();
    let (chunk, _) = site.node(1).store().list(None, 1).unwrap()[0];
    let good = site.node(2).store().header(chunk).await.unwrap();
    forge(&site, chunk).await;
    assert_ne!(site.node(1).store().header(chunk).await.unwrap(), good);
    assert_eq!(get(&objects, &bucket, "k").await.unwrap(), bytes, "never served");
    until("the replacement", async || site.node(1).store().header(chunk).await.unwrap() == good).await;
    site.settled().await;
    assert_eq!(get(&objects, &bucket, "k").await.unwrap(), bytes);
    let report = view(&site, 1).await.report.unwrap();
    assert_eq!((report.scrub.mended, report.quarantined), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_repair_copies_only_what_authenticates() {
    let site = Site::of(3).await;
    let objects = site.node(3).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    let bytes = block(1, 500_000);
    put(&objects, &bucket, "k", &bytes).await.unwrap();
    let (chunk, _) = site.node(1).store().list(None, 1).unwrap()[0];
    let good = site.node(2).store().header(chunk).await.unwrap();
    forge(&site, chunk).await;
    // Node 3 knows that its copy is bad; node 1, which it asks first, does not know that its own is.
    site.node(3).store().doubt(chunk).await.unwrap();
    site.node(3)
        .group()
        .propose(Command::FoundMissing { node: NodeId(3), chunks: vec![chunk] }, None)
        .await
        .unwrap();
    until("both are good", async || {
        let of = async |id| site.node(id).store().header(chunk).await.unwrap() == good;
        of(3).await && of(1).await && site.node(3).store().quarantined().is_empty()
    })
    .await;
    site.settled().await;
    assert_eq!(get(&objects, &bucket, "k").await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_scrub_that_is_asked_for_finds_what_nobody_reads() {
    let site = Site::of(3).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    let bytes = block(1, 3_000_000);
    put(&objects, &bucket, "k", &bytes).await.unwrap();
    let store = site.node(2).store();
    let (chunk, _) = store.list(None, 1).unwrap()[0];
    let cipher = store.read(chunk, 3..4).await.unwrap();
    assert_eq!(flip(&site.dir().join("node-2/chunks"), &cipher[..32]), 1);
    let pass = objects.scrub(NodeId(2)).await.unwrap();
    until("the end of the pass", async || view(&site, 2).await.report.unwrap().scrub.ended >= pass).await;
    until("the repair", async || {
        let report = view(&site, 2).await.report.unwrap();
        (report.scrub.found, report.scrub.mended, report.quarantined) == (1, 1, 0)
    })
    .await;
    site.settled().await;
    assert!(store.read(chunk, 0..46).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_two_nodes_acknowledge_what_both_have_and_grow_to_three_under_load() {
    let mut site = Site::of(2).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    let (small, large) = (block(1, 500), block(2, 300_000));
    let log = |id| site.node(id).group().status().last_log;
    let before = log(1);
    put(&objects, &bucket, "small", &small).await.unwrap();
    assert!(log(2) > before, "what was answered is in both logs: {} behind {before}", log(2));
    site.stop(2).await;
    for (key, bytes) in [("lost-small", &small), ("lost-large", &large)] {
        let refused = put(&objects, &bucket, key, bytes).await.err();
        assert!(
            matches!(refused, Some(Error::Unavailable { .. } | Error::Unknown { .. })),
            "{key}: {refused:?}"
        );
    }
    assert_eq!(get(&objects, &bucket, "small").await.unwrap(), small, "reads go on");
    // A start while the second node is away serves reads, too.
    drop(objects);
    site.stop(1).await;
    site.start(NodeId(1)).await;
    until("the gateway", async || site.node(1).ready().is_ok()).await;
    assert_eq!(get(&site.node(1).objects(), &bucket, "small").await.unwrap(), small);
    site.start(NodeId(2)).await;
    site.settled().await;
    put(&site.node(2).objects(), &bucket, "again", &large).await.unwrap();

    let stop = AtomicBool::new(false);
    let objects = site.node(1).objects();
    let grown = async {
        site.add(None).await;
        site.settled().await;
        stop.store(true, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(load(objects, bucket.clone(), &stop), grown);
    let status = site.any().objects().status().await.unwrap();
    assert_eq!((status.copies, status.copies_min), (3, 2));
    until("three votes", async || {
        site.any().objects().status().await.unwrap().nodes.iter().filter(|node| node.voter).count() == 3
    })
    .await;
    assert!(!written.is_empty());
    site.stop(1).await;
    for (key, bytes) in written {
        assert_eq!(get(&site.any().objects(), &bucket, &key).await.unwrap(), bytes, "I1: {key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_of_a_group_find_by_comparing_what_one_of_them_lost() {
    let site = Site::of(3).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    for n in 0..6 {
        put(&objects, &bucket, &format!("k{n}"), &block(n, 100_000)).await.unwrap();
    }
    let chunks: Vec<ChunkId> =
        site.node(3).store().list(None, 100).unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(chunks.len(), 6);
    // Stores forget, each another chunk, as one would whose index lies to it. The sweep over rows finds such a copy,
    // too, and may be first.
    let mut found: u64 = 0;
    for _ in 0..20 {
        site.node(3).store().evict(vec![chunks[0], chunks[4]]).await.unwrap();
        site.node(1).store().evict(vec![chunks[2]]).await.unwrap();
        until("all copies", async || {
            site.running().all(|node| chunks.iter().all(|chunk| node.store().stat(*chunk).unwrap().is_some()))
        })
        .await;
        site.settled().await;
        let nodes = site.any().objects().status().await.unwrap().nodes;
        found = nodes.iter().filter_map(|node| Some(node.report.as_ref()?.compared_missing)).sum();
        if found > 0 {
            break;
        }
    }
    assert!(found > 0, "the sweep over rows was first, twenty times in a row");
}
