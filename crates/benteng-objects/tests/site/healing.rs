//! Nodes that are down, come back, are wiped and replaced; and the power cut of all.

use benteng_meta::ids::*;
use benteng_meta::{BlobRow, Body, key, query};
use benteng_objects::*;
use bytes::Bytes;

use crate::harness::*;

/// Objects of several sizes, written through all running nodes.
async fn fill(site: &Site, bucket: &Bucket, round: u64) -> Vec<(String, Bytes)> {
    let mut written = Vec::new();
    for (i, n) in [10, 50_000, 1_000_000, 4_300_000].into_iter().enumerate() {
        for (j, objects) in site.all().iter().enumerate() {
            let key = format!("{round}/{i}/{j}");
            let bytes = block(round * 100 + (i * 10 + j) as u64, n);
            put(objects, bucket, &key, &bytes).await.unwrap_or_else(|e| panic!("{key}: {e}"));
            written.push((key, bytes));
        }
    }
    written
}

async fn check(site: &Site, bucket: &Bucket, written: &[(String, Bytes)]) {
    for objects in site.all() {
        for (key, bytes) in written {
            let read = get(&objects, bucket, key).await.unwrap_or_else(|e| panic!("{key}: {e}"));
            assert_eq!(read, bytes, "{key}");
        }
    }
}

/// Every chunk that a row names is in the store of every running node: for sites of three.
fn all_copies_there(site: &Site) {
    let view = site.any().group().local().unwrap();
    let blobs = query::all::<BlobRow>(&*view, key::Table::Blob).unwrap();
    let mut chunks = 0;
    for (row_key, row) in blobs {
        let Body::Single(part) = row.body else { continue };
        let blob = BlobId(uuid::Uuid::from_slice(&row_key[1..17]).unwrap());
        for sequence in 0..benteng_meta::apply::chunks_of(part.size) {
            let chunk = ChunkId { blob, part: PartNumber(1), attempt: part.attempt, sequence };
            for node in site.running() {
                let info = node.store().stat(chunk).unwrap();
                assert!(info.is_some_and(|info| !info.quarantined), "node {} lacks {chunk}", node.me());
            }
            chunks += 1;
        }
    }
    assert!(chunks > 10, "{chunks} chunks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_node_down_stops_nothing_and_what_it_missed_is_repaired_to_zero() {
    let mut site = Site::of(3).await;
    let bucket = site.node(1).objects().create_bucket("data", "ani").await.unwrap();
    let mut written = fill(&site, &bucket, 1).await;
    let leader = site.node(1).group().leader().unwrap().0;
    site.stop(leader).await;
    let objects = site.any().objects();
    until("writes without the leader", async || {
        put(&objects, &bucket, "probe", &block(0, 100_000)).await.is_ok()
    })
    .await;
    written.extend(fill(&site, &bucket, 2).await);
    let status = site.any().objects().status().await.unwrap();
    assert!(!status.healthy && status.chunks_short > 0, "{:?}", status.reasons);
    check(&site, &bucket, &written).await;
    site.start(NodeId(leader)).await;
    site.settled().await;
    check(&site, &bucket, &written).await;
    all_copies_there(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_replaced_and_its_replacement_is_filled() {
    let mut site = Site::of(3).await;
    let bucket = site.node(1).objects().create_bucket("data", "ani").await.unwrap();
    let mut written = fill(&site, &bucket, 1).await;
    site.stop(3).await;
    site.wipe(3);
    written.extend(fill(&site, &bucket, 2).await);
    let new = site.add(Some(NodeId(3))).await;
    assert_eq!(new, NodeId(4), "ids are never used again");
    written.extend(fill(&site, &bucket, 3).await);
    site.settled().await;
    until("the vote of the new node", async || {
        let status = site.any().objects().status().await.unwrap();
        status.nodes.iter().filter(|n| n.voter).map(|n| n.node.0).collect::<Vec<_>>() == [1, 2, 4]
    })
    .await;
    all_copies_there(&site);
    // Both old nodes may go: what is there is on the new one as well.
    check(&site, &bucket, &written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o3_a_site_is_not_whole_while_its_replacement_has_not_started() {
    let mut site = Site::of(3).await;
    let bucket = site.node(1).objects().create_bucket("data", "ani").await.unwrap();
    let written = fill(&site, &bucket, 1).await;
    site.stop(3).await;
    site.wipe(3);
    let new = site.let_in(Some(NodeId(3))).await;
    // Many rounds of the leader's work: 50 ms each.
    for _ in 0..20 {
        let status = site.any().objects().status().await.unwrap();
        assert!(!status.healthy && status.groups_moving == 1024, "{status:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    site.start(new).await;
    site.settled().await;
    all_copies_there(&site);
    check(&site, &bucket, &written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_all_nodes_restart_and_everything_is_there() {
    let mut site = Site::of(3).await;
    let bucket = site.node(1).objects().create_bucket("data", "ani").await.unwrap();
    let written = fill(&site, &bucket, 1).await;
    for id in 1..=3 {
        site.stop(id).await;
    }
    for id in 1..=3 {
        site.start(NodeId(id)).await;
    }
    site.settled().await;
    check(&site, &bucket, &written).await;
    all_copies_there(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_grows_from_one_to_four_and_keeps_three_copies() {
    let mut site = Site::of(1).await;
    let bucket = site.node(1).objects().create_bucket("data", "ani").await.unwrap();
    let mut written = fill(&site, &bucket, 1).await;
    for round in 2..=4 {
        site.add(None).await;
        written.extend(fill(&site, &bucket, round).await);
        site.settled().await;
        check(&site, &bucket, &written).await;
    }
    let status = site.any().objects().status().await.unwrap();
    assert_eq!((status.copies, status.copies_min), (3, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_flipped_bit_is_repaired_and_never_served() {
    let site = Site::of(3).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    let bytes = block(1, 3_000_000);
    put(&objects, &bucket, "k", &bytes).await.unwrap();
    let store = site.node(1).store();
    let (chunk, _) = store.list(None, 1).unwrap()[0];
    let cipher = store.read(chunk, 3..4).await.unwrap();
    assert_eq!(flip(&site.dir().join("node-1/chunks"), &cipher[..32]), 1);
    assert_eq!(get(&objects, &bucket, "k").await.unwrap(), bytes);
    until("the repair of the damaged copy", async || {
        let info = store.stat(chunk).unwrap();
        info.is_some_and(|info| !info.quarantined) && store.read(chunk, 0..46).await.is_ok()
    })
    .await;
    site.settled().await;
    assert_eq!(get(&objects, &bucket, "k").await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_damaged_copy_of_what_was_deleted_is_nobodys_trouble() {
    let site = Site::of(3).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    let bytes = block(1, 13_000_000);
    put(&objects, &bucket, "k", &bytes).await.unwrap();
    // A reader keeps what is deleted from its removal (O5).
    let reading = objects.get(&bucket, "k", GetOptions::default()).await.unwrap();
    objects.delete(&bucket, vec![benteng_meta::DeleteKey { key: "k".into(), if_match: None }]).await.unwrap();
    let store = site.node(1).store();
    let (chunk, _) = store.list(None, 1).unwrap()[0];
    let cipher = store.read(chunk, 3..4).await.unwrap();
    assert_eq!(flip(&site.dir().join("node-1/chunks"), &cipher[..32]), 1);
    assert!(store.read(chunk, 3..4).await.is_err());
    assert_eq!(store.quarantined(), [chunk]);
    // Nobody can repair it, and nothing is lacking: it waits for its removal like the good copies.
    site.settled().await;
    assert_eq!(store.quarantined(), [chunk], "I8: a reader still uses it");
    drop(reading);
    until("its removal", async || store.quarantined().is_empty()).await;
    site.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_without_a_quorum_nothing_is_acknowledged_and_nothing_is_left_behind() {
    let mut site = Site::of(3).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    put(&objects, &bucket, "k", &block(1, 100_000)).await.unwrap();
    site.stop(2).await;
    site.stop(3).await;
    let refused = put(&objects, &bucket, "k", &block(2, 100_000)).await.err();
    assert!(matches!(refused, Some(Error::Unavailable { .. } | Error::Unknown { .. })), "{refused:?}");
    let unread = objects.get(&bucket, "k", GetOptions::default()).await.err();
    assert!(matches!(unread, Some(Error::Unavailable { .. })), "I2: no quorum, no read: {unread:?}");
    drop(objects);
    site.start(NodeId(2)).await;
    site.start(NodeId(3)).await;
    site.settled().await;
    let objects = site.node(1).objects();
    assert_eq!(get(&objects, &bucket, "k").await.unwrap(), block(1, 100_000));
    until("the removal of what was refused", async || {
        site.running().all(|node| node.store().usage().chunks == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_died_half_way_forms_its_site_at_the_next_start() {
    let mut site = Site::founder().await;
    site.form_half().await;
    site.stop(1).await;
    site.start(NodeId(1)).await;
    site.form().await;
    site.settled().await;
    let bucket = site.any().objects().create_bucket("arsip", "ani").await.unwrap();
    // Once more changes nothing.
    site.stop(1).await;
    site.start(NodeId(1)).await;
    site.form().await;
    site.settled().await;
    assert_eq!(site.any().objects().bucket("arsip").await.unwrap().id, bucket.id);
}
