//! Failures: garbage, deaf and dead peers, redialling.

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::Error;
use crate::rpc::{Welcome, preface, welcome};
use crate::secure::Secure;
use crate::wire::{Message, Outgoing};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_deadline_on_a_stalled_link_drops_it_and_the_next_call_succeeds() {
    counted();
    let pair = Pair::new(limits()).await;
    pair.echo().await.unwrap();
    pair.net.stall();
    let result = pair.me.call(PEER, Lane::Unary, ask(method::ECHO, &[]), SHORT).await;
    match result {
        Err(e @ Error::DeadlinePassed { .. }) => assert!(e.is_unknown()),
        other => panic!("{other:?}"),
    }
    assert!(!pair.me.up(PEER), "known down until it is heard again");
    assert_eq!(count_of("benteng_rpc_dropped_silent_total"), 1);
    pair.echo().await.unwrap();
    assert!(pair.me.up(PEER));
    assert_eq!(pair.net.connects(), 2);
}

#[tokio::test]
async fn a_slow_service_does_not_cost_the_connection_if_later_calls_are_answered() {
    let pair = Pair::new(limits()).await;
    let slow = pair.me.call(PEER, Lane::Unary, ask(method::NEVER, &[]), SHORT);
    let later = async {
        benteng_host::sleep(&*real::host().clock, SHORT / 4).await;
        pair.echo().await
    };
    let (slow, later) = tokio::join!(slow, later);
    assert!(matches!(slow, Err(Error::DeadlinePassed { .. })));
    assert!(later.is_ok() && pair.me.up(PEER));
    pair.echo().await.unwrap();
    assert_eq!(pair.net.connects(), 1);
}

#[tokio::test]
async fn other_calls_on_a_dropped_link_learn_that_their_outcome_is_unknown() {
    let pair = Pair::new(limits()).await;
    pair.echo().await.unwrap();
    pair.net.stall();
    let long = pair.me.call(PEER, Lane::Unary, ask(method::ECHO, &[]), SOON);
    let short = pair.me.call(PEER, Lane::Unary, ask(method::ECHO, &[]), SHORT);
    let (long, short) = tokio::join!(long, short);
    assert!(matches!(&long, Err(e @ Error::Closed { .. }) if e.is_unknown()), "{long:?}");
    assert!(matches!(short, Err(Error::DeadlinePassed { .. })));
}

#[tokio::test]
async fn a_silent_link_is_dropped_by_its_pings_long_before_the_deadline() {
    let pair = Pair::new(Limits { silence: Duration::from_millis(300), ..Limits::default() }).await;
    let waits = pair.me.call(PEER, Lane::Unary, ask(method::NEVER, &[]), Duration::from_secs(2));
    assert!(
        matches!(waits.await, Err(Error::DeadlinePassed { .. })),
        "pings are answered: only the service is slow"
    );
    assert_eq!(pair.net.connects(), 1);
    assert!(pair.me.up(PEER), "a slow service is not a dead node");
    pair.net.stall();
    let result = pair.me.call(PEER, Lane::Unary, ask(method::NEVER, &[]), SOON).await;
    assert!(matches!(&result, Err(Error::Closed { why, .. }) if why.contains("ping")), "{result:?}");
}

#[tokio::test]
async fn a_dial_that_fails_backs_off_and_fails_fast_meanwhile() {
    let slow = Limits { backoff_min: Duration::from_millis(400), ..limits() };
    let pair = Pair::new(slow).await;
    pair.me.set_peer(PEER, "nobody:1".to_owned());
    let results = join_all((0..5).map(|_| pair.echo())).await;
    assert!(
        results.iter().all(|r| matches!(r, Err(e @ Error::Unreachable { .. }) if !e.is_unknown())),
        "{results:?}"
    );
    assert!(!pair.me.up(PEER));
    for _ in 0..5 {
        assert!(matches!(pair.echo().await, Err(Error::Unreachable { .. })));
    }
    assert_eq!(pair.net.connects(), 1, "one dial for all, and none during the back-off");
    let _server = pair.peer.listen("nobody:1").await.unwrap();
    let host = real::host();
    let started = host.clock.now();
    while pair.echo().await.is_err() {
        assert!(host.clock.now().since(started) < SOON);
        benteng_host::sleep(&*host.clock, Duration::from_millis(20)).await;
    }
    assert!(pair.me.up(PEER));
}

#[tokio::test]
async fn a_dial_that_hangs_is_unreachable_at_the_deadline_and_given_up_later() {
    let pair = Pair::new(Limits { dial: Duration::from_millis(500), ..limits() }).await;
    pair.net.hang.store(true, Ordering::SeqCst);
    let short = pair.me.call(PEER, Lane::Unary, ask(method::ECHO, &[]), SHORT).await;
    assert!(matches!(&short, Err(e @ Error::Unreachable { .. }) if !e.is_unknown()), "{short:?}");
    let long = pair.echo().await;
    assert!(matches!(&long, Err(Error::Unreachable { why, .. }) if why.contains("500ms")), "{long:?}");
    assert_eq!(pair.net.connects(), 1, "the second call shared the first one's dial");
}

/// A raw connection to `PEER`'s server, past hello and preface.
async fn raw(pair: &Pair) -> Box<dyn benteng_host::Stream> {
    let stream = pair.net.dial("peer:1").unwrap();
    let mut stream = PlainHello::new(ME).connect(stream, PEER).await.unwrap();
    stream.write_all(&preface(Lane::Unary)).await.unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, welcome(Welcome::Ok));
    stream
}

fn frames(messages: &[(u64, Message)]) -> Vec<u8> {
    let mut out = Outgoing::default();
    for (id, message) in messages {
        out.push(*id, message);
    }
    out.seal();
    out.into_vec()
}

#[tokio::test]
async fn garbage_closes_the_connection_and_is_counted() {
    counted();
    let pair = Pair::new(limits()).await;
    let good = frames(&[(1, Message::Ping)]);
    let mut flipped = good.clone();
    flipped[5] ^= 1;
    let reply = frames(&[(1, Message::Open(ask(method::IGNORE, &[]))), (1, Message::Window(1))]);
    let mut flood = vec![(1, Message::Open(ask(method::IGNORE, &[])))];
    flood.extend((0..70_000).map(|_| (1, Message::Data(Vec::new()))));
    let cases = [
        ("noise", vec![0xab; 100]),
        ("checksum", flipped),
        ("false credit", reply),
        ("beyond the window", frames(&flood)),
    ];
    for (i, (what, bytes)) in cases.into_iter().enumerate() {
        let mut stream = raw(&pair).await;
        // The last one is longer than the socket takes before it is closed.
        let _ = stream.write_all(&bytes).await;
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        benteng_host::timeout(&*real::host().clock, SOON, read)
            .await
            .unwrap_or_else(|_| panic!("{what}: stays open"))
            .unwrap();
        assert_eq!(count_of("benteng_rpc_garbage_total"), i + 1, "{what}");
    }
    pair.echo().await.unwrap();
}

#[tokio::test]
async fn i7_a_peer_that_asks_and_never_reads_is_dropped() {
    let pair = Pair::new(limits()).await;
    let mut stream = raw(&pair).await;
    let pings = frames(&vec![(1, Message::Ping); 1_000]);
    let asking = async { while stream.write_all(&pings).await.is_ok() {} };
    benteng_host::timeout(&*real::host().clock, SOON, asking).await.expect("I7: the answers pile up");
    pair.echo().await.unwrap();
}

#[tokio::test]
async fn a_wrong_hello_or_preface_is_refused() {
    counted();
    let pair = Pair::new(limits()).await;
    for (i, bytes) in [&b"GET / HTTP/1.1\r\n\r\n\r\n"[..], &[0xff; 40]].into_iter().enumerate() {
        let mut stream = pair.net.dial("peer:1").unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        until("counted", || count_of("benteng_rpc_handshake_failures_total") == i + 1).await;
    }
    let stream = pair.net.dial("peer:1").unwrap();
    let mut stream = PlainHello::new(ME).connect(stream, PEER).await.unwrap();
    let mut future = preface(Lane::Unary);
    future[4] = 2;
    stream.write_all(&future).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, welcome(Welcome::Unknown));
    let stream = pair.net.dial("peer:1").unwrap();
    assert!(PlainHello::new(ME).connect(stream, NodeId(9)).await.is_err(), "another node was looked for");
}

#[tokio::test]
async fn a_server_that_asks_or_answers_garbage_is_dropped() {
    counted();
    let pair = Pair::new(limits()).await;
    let mut door = pair.net.door("bad:1");
    pair.me.set_peer(PEER, "bad:1".to_owned());
    let bad = async {
        let stream = door.recv().await.unwrap();
        let (mut stream, _) = PlainHello::new(PEER).accept(stream).await.unwrap();
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&welcome(Welcome::Ok)).await.unwrap();
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&frames(&[(1, Message::Request(ask(1, &[])))])).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    };
    let (result, ()) = tokio::join!(pair.echo(), bad);
    assert!(matches!(result, Err(Error::Closed { .. })), "{result:?}");
    assert_eq!(count_of("benteng_rpc_garbage_total"), 1);
}

#[tokio::test]
async fn a_newer_connection_of_a_lane_supersedes_the_older() {
    let pair = Pair::new(limits()).await;
    let mut old = raw(&pair).await;
    old.write_all(&frames(&[(1, Message::Request(ask(method::NEVER, &[])))])).await.unwrap();
    let mut new = raw(&pair).await;
    let mut rest = Vec::new();
    old.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    new.write_all(&frames(&[(1, Message::Ping)])).await.unwrap();
    let mut pong = vec![0; 20];
    new.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, frames(&[(1, Message::Pong)]));
}

#[tokio::test]
async fn dropping_the_server_ends_what_it_accepted() {
    let pair = Pair::new(limits()).await;
    pair.echo().await.unwrap();
    let hanging = pair.me.call(PEER, Lane::Unary, ask(method::NEVER, &[]), SOON);
    let stop = async {
        benteng_host::sleep(&*real::host().clock, SHORT / 4).await;
        drop(pair.server);
    };
    let (result, ()) = tokio::join!(hanging, stop);
    assert!(matches!(&result, Err(e @ Error::Closed { .. }) if e.is_unknown()), "{result:?}");
}

#[tokio::test]
async fn idle_links_are_closed_by_the_dialling_end_and_dialled_again() {
    let brief =
        Limits { silence: Duration::from_millis(60), idle: Duration::from_millis(400), ..Limits::default() };
    let pair = Pair::new(brief).await;
    pair.echo().await.unwrap();
    benteng_host::sleep(&*real::host().clock, Duration::from_millis(800)).await;
    pair.echo().await.unwrap();
    assert_eq!(pair.net.connects(), 2);
}

#[tokio::test]
async fn a_peer_that_accepts_and_closes_is_not_dialled_in_a_loop() {
    let pair = Pair::new(limits()).await;
    let mut door = pair.net.door("shut:1");
    pair.me.set_peer(PEER, "shut:1".to_owned());
    let shut = async {
        loop {
            let stream = door.recv().await.unwrap();
            let (mut stream, _) = PlainHello::new(PEER).accept(stream).await.unwrap();
            let mut bytes = [0; 8];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(&welcome(Welcome::Ok)).await.unwrap();
        }
    };
    let result = futures::future::select(Box::pin(pair.echo()), Box::pin(shut)).await;
    let futures::future::Either::Left((result, _)) = result;
    assert!(matches!(result, Err(Error::Unreachable { .. } | Error::Closed { .. })), "{result:?}");
    assert!(pair.net.connects() <= 3);
}
