//! What waits or piles up: a journal without room, a peer that asks and reads no answer.

use std::time::Duration;

use benteng_host::Host;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Scenario;
use crate::door::{Ask, Say};
use crate::plan::Plan;
use crate::site::address;
use crate::stage::{Played, Stage, broken};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new("j6_a_release_makes_room_for_a_journal_that_waits", &[], a_release_makes_room)
        .with(small_chunk_segments),
    Scenario::new("i7_a_peer_that_reads_no_answers", &[], a_peer_that_reads_no_answers),
];

fn small_chunk_segments() -> Plan {
    Plan { chunk_segment: 9 << 20, ..Plan::calm() }
}

/// Chunks were let in while there was room for them; then there is none, until cleaning releases a dead segment.
fn a_release_makes_room(stage: &mut Stage) -> Played {
    for round in 0..3 {
        stage.put(1, "besar", 700 + round, 4 << 20)?;
    }
    stage.converges()?;
    let disks =
        (1..=3).map(|node| Ok(stage.machine(node)?.disk.clone())).collect::<Result<Vec<_>, String>>()?;
    let put = |value: u64| Ask::Put {
        key: format!("kunci-{value}"),
        value,
        len: 4 << 20,
        create: false,
        tag: None,
        pause: 0,
    };
    let released = stage.count("journal_released_while_stalled");
    for round in 0..6 {
        // The stores have just looked at their devices: for half a second they believe what they saw.
        stage.put(1, "segar", 780 + round, 20_000)?;
        // What is let in at once is more than what the open segment and the spare one hold.
        let writes: Vec<_> =
            (0..5).map(|n| stage.start(1 + n % 3, put(800 + 10 * round + n))).collect::<Result<_, _>>()?;
        disks.iter().for_each(|disk| disk.set_capacity(Some(0)));
        stage.ms(14_000)?;
        disks.iter().for_each(|disk| disk.set_capacity(None));
        for write in writes {
            // Done, or refused for want of room.
            match stage.finish(&write, 60)? {
                Some(Say::Put(_) | Say::Failed(_) | Say::Unknown(_)) => {}
                other => broken!("J6: a write to full disks was answered {other:?}"),
            }
        }
        if stage.count("journal_released_while_stalled") > released {
            break;
        }
        for n in 0..5 {
            stage.ask(1, Ask::Delete { key: format!("kunci-{}", 800 + 10 * round + n) })?;
        }
        stage.ms(3000)?;
    }
    stage.reaches("journal_released_while_stalled", released, 1)?;
    stage.put(1, "besar", 790, 60_000)?;
    stage.converges()
}

/// Connects to `node` as a peer of the site and asks on and on.
async fn asks_and_reads_nothing(host: Host, node: u64, peer: u64) -> Result<(), String> {
    const PINGS: u64 = 20_000;
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let mut stream = host.net.connect(&address(node)).await.map_err(|e| text(&e))?;
    let mut hello = b"BTPH".to_vec();
    hello.extend(peer.to_be_bytes());
    hello.extend(node.to_be_bytes());
    stream.write_all(&hello).await.map_err(|e| text(&e))?;
    stream.read_exact(&mut [0; 20]).await.map_err(|e| text(&e))?;
    stream.write_all(b"BTRP\x01\x01\0\0").await.map_err(|e| text(&e))?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await.map_err(|e| text(&e))?;
    if answer[5] != 0 {
        return Err(format!("node {node} refuses the connection: {answer:?}"));
    }
    let pings: Vec<u8> = (1..=PINGS).flat_map(ping).collect();
    // The connection is to go under it.
    let _ = stream.write_all(&pings).await;
    benteng_host::sleep(&*host.clock, Duration::from_secs(2)).await;
    Ok(())
}

/// A ping as it goes over the wire: docs/formats-rpc.md.
fn ping(id: u64) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend([3, 0, 0, 0]);
    header.extend(id.to_be_bytes());
    let mut frame = header[..4].to_vec();
    frame.extend(crc32c(&header).to_be_bytes());
    frame.extend(&header[4..]);
    frame
}

/// Bit by bit: a few bytes only.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn a_peer_that_reads_no_answers(stage: &mut Stage) -> Played {
    stage.put(1, "kunci", 700, 500)?;
    let deaf = stage.count("rpc_deaf_peer");
    for _ in 0..5 {
        let host = stage.client()?;
        stage.run(asks_and_reads_nothing(host, 2, 3))??;
        if stage.count("rpc_deaf_peer") > deaf {
            break;
        }
    }
    stage.reaches("rpc_deaf_peer", deaf, 1)?;
    stage.put(2, "kunci", 701, 500)?;
    stage.reads(3, "kunci", 701)?;
    stage.converges()
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
