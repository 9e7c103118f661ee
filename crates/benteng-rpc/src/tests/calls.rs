//! Calls: many at once, deadlines, refusals, panics of the service.

use futures::future::join_all;

use super::*;
use crate::{Error, refused};

#[tokio::test]
async fn a_call_carries_parts_group_epoch_and_identity_over_real_tcp() {
    let answers = Answers::new();
    let rpc = |node| {
        Rpc::new(
            real::host(),
            node,
            Arc::new(PlainHello::new(node)),
            Arc::new(Answering(answers.clone())),
            limits(),
        )
    };
    let (me, peer) = (rpc(ME), rpc(PEER));
    let server = peer.listen("127.0.0.1:0").await.unwrap();
    me.set_peer(PEER, server.local_addr().to_owned());
    peer.set_peer(ME, String::new());

    let chunk = Bytes::from((0..4 << 20).map(|i: u32| i.to_le_bytes()[i as usize % 3]).collect::<Vec<_>>());
    for lane in Lane::ALL {
        let mut request = ask(method::ECHO, &[b"", b"head"]);
        request.parts.push(chunk.clone());
        let reply = me.call(PEER, lane, request, SOON).await.unwrap();
        assert_eq!(reply.status, Status::Ok);
        let want = [Bytes::new(), Bytes::from_static(b"head"), chunk.clone(), format!("1 {lane} 3 4").into()];
        assert_eq!(reply.parts, want);
    }
    let calls = (0..100_usize).map(|i| {
        let me = me.clone();
        async move {
            let mut request = ask(method::ECHO, &[]);
            request.parts.push(Bytes::from(i.to_string().repeat(i * 10)));
            let reply = me.call(PEER, Lane::Unary, request, SOON).await.unwrap();
            assert_eq!(reply.parts[0], i.to_string().repeat(i * 10));
        }
    });
    join_all(calls).await;
}

#[tokio::test]
async fn reads_of_one_byte_and_writes_of_three_change_nothing() {
    let pair = Pair::new(limits()).await;
    pair.net.split.store(true, Ordering::SeqCst);
    let mut request = ask(method::ECHO, &[b"a", b""]);
    request.parts.push(Bytes::from(vec![5; 10_000]));
    let want = request.parts.clone();
    let reply = pair.me.call(PEER, Lane::Chunks, request, SOON).await.unwrap();
    assert_eq!(reply.parts[..3], want);
}

#[tokio::test]
async fn callers_share_one_dial_per_lane() {
    let pair = Pair::new(limits()).await;
    let calls = (0..20).map(|_| pair.echo());
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(pair.net.connects(), 1);
    pair.me.call(PEER, Lane::Log, ask(method::ECHO, &[]), SOON).await.unwrap();
    assert_eq!(pair.net.connects(), 2, "each lane has a connection of its own");
}

#[tokio::test]
async fn refusals_reach_the_caller_as_they_are() {
    let pair = Pair::new(limits()).await;
    let call = |method| pair.me.call(PEER, Lane::Unary, ask(method, &[b"why"]), SOON);
    match call(method::REFUSE).await {
        Err(e @ Error::Refused { .. }) => {
            assert!(!e.is_unknown());
            assert_eq!(e.to_string(), "node 2 refused with code 42: tidak");
        }
        other => panic!("{other:?}"),
    }
    let reply = call(method::STATUS).await.unwrap();
    assert_eq!((reply.status, &reply.parts[0][..]), (Status::Refused(7), &b"why"[..]));
    assert!(matches!(call(method::HUGE).await, Err(Error::Refused { code: refused::TOO_LARGE, .. })));
}

#[tokio::test]
async fn a_panic_of_the_service_is_a_counted_refusal_and_the_connection_stays() {
    counted();
    let pair = Pair::new(limits()).await;
    let result = pair.me.call(PEER, Lane::Unary, ask(method::PANIC, &[]), SOON).await;
    match result {
        Err(e @ Error::Refused { code: refused::PANICKED, .. }) => {
            assert!(e.is_unknown(), "it may have acted before it panicked");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(count_of("benteng_rpc_panics_total"), 1);
    pair.echo().await.unwrap();
    assert_eq!(pair.net.connects(), 1);
}

#[tokio::test]
async fn i7_calls_under_way_are_bounded_and_the_next_one_waits() {
    let pair = Pair::new(Limits { in_flight: 3, ..limits() }).await;
    let calls = join_all((0..10).map(|_| pair.me.call(PEER, Lane::Unary, ask(method::GATE, &[]), SOON)));
    let open = async {
        until("three wait", || pair.answers.waiting.load(Ordering::SeqCst) == 3).await;
        pair.answers.gate.add_permits(10);
    };
    let (results, ()) = tokio::join!(calls, open);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(pair.answers.waiting_max.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn i7_a_server_refuses_more_than_twice_its_bound() {
    let pair = Pair::with(Limits { in_flight: 100, ..limits() }, Limits { in_flight: 2, ..limits() }).await;
    let calls = join_all((0..10).map(|_| pair.me.call(PEER, Lane::Unary, ask(method::GATE, &[]), SOON)));
    let open = async {
        until("four wait", || pair.answers.waiting.load(Ordering::SeqCst) == 4).await;
        pair.answers.gate.add_permits(4);
    };
    let (results, ()) = tokio::join!(calls, open);
    let refused =
        |r: &&crate::Result<Reply>| matches!(r, Err(Error::Refused { code: refused::OVERLOADED, .. }));
    assert_eq!(results.iter().filter(refused).count(), 6, "{results:?}");
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 4);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_at_home() {
    let pair = Pair::new(limits()).await;
    let mut request = ask(method::ECHO, &[]);
    request.parts.push(Bytes::from(vec![0; 9 << 20]));
    let result = pair.me.call(PEER, Lane::Chunks, request, SOON).await;
    assert!(matches!(&result, Err(e @ Error::TooLarge { .. }) if !e.is_unknown()), "{result:?}");
    assert_eq!(pair.net.connects(), 0);
}

#[tokio::test]
async fn only_peers_may_call() {
    counted();
    let pair = Pair::new(limits()).await;
    pair.peer.remove_peer(ME);
    match pair.echo().await {
        Err(e @ Error::Unreachable { .. }) => assert!(e.to_string().contains("member"), "{e}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(count_of("benteng_rpc_handshake_failures_total"), 1);
    assert!(matches!(
        pair.peer.call(ME, Lane::Unary, ask(1, &[]), SOON).await,
        Err(Error::Unreachable { .. })
    ));
}

#[tokio::test]
async fn joiners_may_call_joiners_methods_only() {
    let theirs = Limits { joiner_methods: vec![method::STATUS], ..limits() };
    let pair = Pair::with(limits(), theirs).await;
    pair.peer.remove_peer(ME);
    let call = |method| pair.me.call(PEER, Lane::Unary, ask(method, &[]), SOON);
    assert!(call(method::STATUS).await.is_ok());
    assert!(matches!(call(method::ECHO).await, Err(Error::Refused { code: refused::NOT_A_PEER, .. })));
    let (_out, mut inbound) = pair.me.open_stream(PEER, ask(method::ECHO, &[]), SOON).await.unwrap();
    let first = inbound.next().await;
    assert!(matches!(first, Some(Err(Error::Refused { code: refused::NOT_A_PEER, .. }))), "{first:?}");
    pair.peer.set_peer(ME, "me:1".to_owned());
    assert!(call(method::ECHO).await.is_ok(), "a joiner that became a member needs no new connection");
}

#[tokio::test]
async fn removing_a_peer_closes_its_connections_both_ways() {
    let pair = Pair::new(limits()).await;
    pair.echo().await.unwrap();
    let (out, mut inbound) = pair.me.open_stream(PEER, ask(method::ECHO, &[]), SOON).await.unwrap();
    out.send(vec![Bytes::from_static(b"x")]).await.unwrap();
    assert!(inbound.next().await.unwrap().is_ok());
    pair.peer.remove_peer(ME);
    assert!(inbound.next().await.unwrap().unwrap_err().is_unknown());
    assert!(matches!(pair.echo().await, Err(Error::Unreachable { .. } | Error::Closed { .. })));
    pair.me.remove_peer(PEER);
    assert!(!pair.me.up(PEER));
    assert!(matches!(pair.echo().await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn a_peer_that_moves_is_found_at_its_new_address() {
    let pair = Pair::new(limits()).await;
    pair.echo().await.unwrap();
    let _second = pair.peer.listen("peer:2").await.unwrap();
    drop(pair.server);
    pair.me.set_peer(PEER, "peer:2".to_owned());
    let reply = pair.me.call(PEER, Lane::Unary, ask(method::ECHO, &[b"x"]), SOON).await;
    assert!(reply.is_ok(), "{reply:?}");
}
