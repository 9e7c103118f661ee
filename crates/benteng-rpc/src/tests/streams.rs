//! Streams: order, windows, ends and resets.

use super::*;
use crate::Error;

async fn open(pair: &Pair, method: u16) -> (Outbound, Inbound) {
    pair.me.open_stream(PEER, ask(method, &[b"first"]), SOON).await.unwrap()
}

fn message(i: usize) -> Bytes {
    Bytes::from(vec![u8::try_from(i % 251).unwrap(); i % 3_000])
}

#[tokio::test]
async fn messages_arrive_whole_in_order_and_both_ends_end_well() {
    for split in [false, true] {
        let pair = Pair::new(Limits { window: 64 << 10, ..limits() }).await;
        pair.net.split.store(split, Ordering::SeqCst);
        let (out, mut inbound) = open(&pair, method::ECHO).await;
        let count = if split { 30 } else { 1_000 };
        let send = async move {
            for i in 0..count {
                let all = message(i);
                let (a, b) = (all.slice(..all.len() / 2), all.slice(all.len() / 2..));
                out.send(vec![a, b]).await.unwrap();
            }
            out.finish().unwrap();
        };
        let receive = async {
            for i in 0..count {
                assert_eq!(inbound.next().await.unwrap().unwrap(), message(i), "message {i}");
            }
            assert!(inbound.next().await.is_none());
            assert!(inbound.next().await.is_none());
        };
        tokio::join!(send, receive);
        until("the service ended", || pair.answers.ended.lock().unwrap().is_some()).await;
        assert_eq!(pair.answers.ended.lock().unwrap().as_deref(), Some("well"));
    }
}

#[tokio::test]
async fn i7_a_receiver_that_does_not_read_stops_the_sender_within_its_window() {
    let pair = Pair::new(Limits { window: 64 << 10, ..limits() }).await;
    let (out, mut inbound) = open(&pair, method::FLOOD).await;
    let flooded = || pair.answers.flooded.load(Ordering::SeqCst);
    // 1000 B and 64 B of cost each: 61 messages fill 64 KiB.
    until("the window is full", || flooded() == 61).await;
    benteng_host::sleep(&*real::host().clock, Duration::from_millis(100)).await;
    assert_eq!(flooded(), 61, "I7: the sender went on against a full window");
    for _ in 0..61 {
        inbound.next().await.unwrap().unwrap();
    }
    until("it goes on", || flooded() > 61).await;
    drop(out);
}

#[tokio::test]
async fn a_message_longer_than_the_window_passes_alone() {
    let pair = Pair::new(Limits { window: 64 << 10, ..limits() }).await;
    let (out, mut inbound) = open(&pair, method::ECHO).await;
    for len in [1, 20_000, 1 << 20, 60_000, 5, 2 << 20] {
        out.send(vec![Bytes::from(vec![9; len])]).await.unwrap();
        assert_eq!(inbound.next().await.unwrap().unwrap().len(), len);
    }
    let big = out.send(vec![Bytes::from(vec![9; 9 << 20])]).await;
    assert!(matches!(big, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn dropping_either_half_resets_the_stream_at_the_other_end() {
    for which in ["outbound", "inbound"] {
        let pair = Pair::new(limits()).await;
        let (out, mut inbound) = open(&pair, method::ECHO).await;
        out.send(vec![message(5)]).await.unwrap();
        inbound.next().await.unwrap().unwrap();
        let (mut kept_out, mut kept_in) = (Some(out), Some(inbound));
        if which == "outbound" {
            kept_out = None;
        } else {
            kept_in = None;
        }
        until("the service saw it", || pair.answers.ended.lock().unwrap().is_some()).await;
        let ended = pair.answers.ended.lock().unwrap().clone().unwrap();
        assert!(ended.contains("reset"), "{which}: {ended}");
        drop((kept_out, kept_in));
        pair.echo().await.unwrap();
    }
}

#[tokio::test]
async fn a_service_that_leaves_or_panics_resets_the_stream() {
    counted();
    let pair = Pair::new(limits()).await;
    for method in [method::LEAVE, method::PANIC] {
        let (out, mut inbound) = open(&pair, method).await;
        let end = inbound.next().await;
        assert!(matches!(&end, Some(Err(e @ Error::Closed { .. })) if e.is_unknown()), "{end:?}");
        assert!(inbound.next().await.is_none(), "the error is told once");
        assert!(out.send(vec![message(1)]).await.is_err());
        assert!(out.finish().is_err());
    }
    assert_eq!(count_of("benteng_rpc_panics_total"), 1);
}

#[tokio::test]
async fn a_sender_that_waits_for_credit_learns_of_the_end() {
    let pair = Pair::new(Limits { window: 64 << 10, ..limits() }).await;
    let (out, _inbound) = open(&pair, method::IGNORE).await;
    let sending = async {
        loop {
            if let Err(e) = out.send(vec![Bytes::from(vec![0; 10_000])]).await {
                return e;
            }
        }
    };
    let leave = async {
        until("it is open", || !pair.answers.ignored.lock().unwrap().is_empty()).await;
        benteng_host::sleep(&*real::host().clock, Duration::from_millis(50)).await;
        pair.answers.ignored.lock().unwrap().clear();
    };
    let (e, ()) = tokio::join!(sending, leave);
    assert!(matches!(e, Error::Closed { .. }), "{e}");
}

#[tokio::test]
async fn an_open_stream_on_a_stalled_link_ends_by_silence_or_by_severing() {
    for sever in [false, true] {
        let silence = Duration::from_millis(if sever { 60_000 } else { 300 });
        let pair = Pair::new(Limits { silence, ..Limits::default() }).await;
        let (out, mut inbound) = open(&pair, method::ECHO).await;
        out.send(vec![message(5)]).await.unwrap();
        inbound.next().await.unwrap().unwrap();
        pair.net.stall();
        if sever {
            out.sever("the caller's deadline has passed");
        }
        assert!(matches!(inbound.next().await, Some(Err(Error::Closed { .. }))));
        assert!(!pair.me.up(PEER));
        let (out, mut inbound) = open(&pair, method::ECHO).await;
        out.send(vec![message(5)]).await.unwrap();
        assert_eq!(inbound.next().await.unwrap().unwrap(), message(5));
    }
}

#[tokio::test]
async fn i7_streams_are_bounded() {
    let pair = Pair::with(limits(), Limits { streams: 2, ..limits() }).await;
    let mut open_ones = Vec::new();
    for _ in 0..2 {
        let (out, mut inbound) = open(&pair, method::ECHO).await;
        out.send(vec![message(5)]).await.unwrap();
        inbound.next().await.unwrap().unwrap();
        open_ones.push((out, inbound));
    }
    let (_out, mut inbound) = open(&pair, method::ECHO).await;
    let third = inbound.next().await;
    assert!(matches!(third, Some(Err(Error::Refused { code: crate::refused::OVERLOADED, .. }))), "{third:?}");
    let (out, mut inbound) = open_ones.remove(0);
    out.finish().unwrap();
    assert!(inbound.next().await.is_none());
    let (out, mut inbound) = open(&pair, method::ECHO).await;
    out.send(vec![message(5)]).await.unwrap();
    assert!(inbound.next().await.unwrap().is_ok(), "a place is free again");
}
