//! What is said of a site.

use benteng_meta::Doors;

use super::*;

fn node(node: u64, up: bool) -> NodeView {
    let row = NodeRow {
        name: format!("n{node}"),
        zone: String::new(),
        doors: Doors::default(),
        store: StoreId::default(),
        state: NodeState::Active,
        joined: SiteTime(0),
    };
    let report = up.then(|| Report { disk_total: 100, disk_free: 50, ..Report::default() });
    NodeView {
        node: NodeId(node),
        row,
        up,
        leader: false,
        voter: true,
        groups: 0,
        lag: None,
        report,
        vitals: None,
    }
}

#[test]
fn a_site_is_healthy_only_if_nothing_is_missing() {
    let site = |nodes: Vec<NodeView>| SiteStatus {
        site: SiteId::default(),
        name: "kota".to_owned(),
        healthy: true,
        reasons: vec![],
        copies: 3,
        copies_min: 2,
        nodes,
        objects: 0,
        bytes: 0,
        chunks_short: 0,
        oldest_short: None,
        chunks_alone: 0,
        chunks_lost: 0,
        repair_seconds: None,
        scrub_period: 1,
        groups_moving: 0,
        groups_short: 0,
        filling: (0, 0),
        now: SiteTime(9_000_000),
        seq: StateSeq(1),
        confirmed: true,
    };
    let harm = |site: &SiteStatus| findings(site).harm;
    assert_eq!(findings(&site(vec![node(1, true), node(2, true)])), Said::default());
    assert_eq!(harm(&site(vec![node(1, true), node(2, false)])), ["node 2 (n2) does not answer"]);
    let short = SiteStatus { chunks_short: 2, oldest_short: Some(SiteTime(4_000_000)), ..site(vec![]) };
    assert_eq!(harm(&short), ["2 chunks lack a copy, the oldest for 5 s"]);
    let moving = SiteStatus { groups_moving: 4, filling: (3, 8), ..site(vec![]) };
    assert_eq!(harm(&moving), ["4 placement groups are moving; 3 of 8 copies are filled"]);
    let thin = SiteStatus { groups_short: 5, ..site(vec![]) };
    assert_eq!(harm(&thin), ["5 placement groups have fewer than 3 holders"]);
    let lost = SiteStatus { confirmed: false, ..site(vec![]) };
    assert_eq!(harm(&lost).len(), 1);
    let on_disk = |free| {
        let mut full = node(1, true);
        let (disk_total, under_reserve) = (100, free <= 5);
        full.report =
            Some(Report { disk_total, disk_free: free, under_reserve, quarantined: 1, ..Report::default() });
        let said = findings(&site(vec![full]));
        (said.harm.len(), said.notes.len())
    };
    assert_eq!((on_disk(11), on_disk(10), on_disk(5)), ((1, 0), (1, 1), (2, 0)));
}

#[test]
fn an_estimate_is_that_of_the_slowest_node() {
    let mut nodes = vec![node(1, true), node(2, true), node(3, false)];
    let missing = |of: &[(u64, u64)]| of.iter().map(|(n, count)| (NodeId(*n), *count)).collect();
    assert_eq!(repair_seconds(&nodes, &missing(&[]), 1), None);
    // Not begun yet: ten chunks of four MiB at one MiB a second.
    assert_eq!(repair_seconds(&nodes, &missing(&[(1, 10)]), 1 << 20), Some(40));
    nodes[0].report.as_mut().expect("it is up").copied_per_minute = 30;
    assert_eq!(repair_seconds(&nodes, &missing(&[(1, 20)]), 1 << 20), Some(40));
    nodes[1].report.as_mut().expect("it is up").to_fill = 600;
    nodes[1].report.as_mut().expect("it is up").copied_per_minute = 600;
    assert_eq!(repair_seconds(&nodes, &missing(&[(1, 20), (2, 600)]), 1 << 20), Some(120));
    assert_eq!(repair_seconds(&nodes, &missing(&[(3, 1)]), 1 << 20), None, "who is to copy does not answer");
}

#[test]
fn groups_count_the_holders_that_are_there() {
    let row = |current: &[u64], target: Option<&[u64]>| PlacementRow {
        current: current.iter().map(|n| NodeId(*n)).collect(),
        target: target.map(|target| target.iter().map(|n| NodeId(*n)).collect()),
        ..PlacementRow::default()
    };
    let rows = [row(&[1, 2], None), row(&[1, 3], None), row(&[1, 2], Some(&[2, 4]))];
    let rows = (0..).map(PlacementGroup).zip(rows).collect();
    let moves = moves(&rows, 2, |node| *node != NodeId(3));
    assert_eq!((moves.short, moves.moving, moves.to_fill, moves.filled), (1, 1, 1, 0));
    assert_eq!(moves.held.get(&NodeId(1)), Some(&3));
    assert_eq!(moves.held.get(&NodeId(4)), Some(&1));
}
