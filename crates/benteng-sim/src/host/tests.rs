//! A host over its boots: what survives, how it stops, that a seed replays.

use std::path::Path;
use std::time::Duration;

use benteng_host::{Batch, Open, sleep};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn builder(seed: u64) -> turmoil::Builder {
    let mut builder = turmoil::Builder::new();
    builder.simulation_duration(Duration::from_secs(3600)).rng_seed(seed);
    builder
}

fn step_until(sim: &mut turmoil::Sim<'_>, mut done: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if done() {
            return;
        }
        sim.step().expect("the simulation goes on");
    }
    panic!("nothing happens for 100 s of simulated time");
}

/// Appends a synced byte per boot and writes a flushed batch, then aborts, panics, ends or waits.
async fn software(host: Host, kv: Arc<dyn benteng_host::Kv>, boot: u64) -> benteng_host::Result<()> {
    host.disk.create_dir_all(Path::new("/d")).await?;
    let path = Path::new("/d/f");
    let how = if boot == 1 { Open::CreateNew } else { Open::Write };
    let file = host.disk.open(path, how).await?;
    host.disk.sync_dir(Path::new("/d")).await?;
    file.write_at(boot - 1, vec![Bytes::from(vec![b'0' + boot as u8])]).await?;
    file.sync_data().await?;
    let mut batch = Batch::default();
    batch.put("boot", boot.to_string());
    kv.write(batch).await?;
    kv.flush().await?;
    let background = host.tasks.spawn("background", {
        let host = host.clone();
        Box::pin(async move { sleep(&*host.clock, Duration::from_secs(1000)).await })
    });
    match boot {
        1 => match host.fate.abort("a planted abort").await {},
        2 => panic!("a planted panic"),
        3 => return Ok(()),
        _ => drop(background.await),
    }
    Ok(())
}

#[test]
fn a_host_survives_its_ends_and_says_how_it_ended() {
    let host = SimHost::new("node-1", 7);
    let mut sim = builder(7).build();
    let on = host.clone();
    sim.host("node-1", move || {
        let kv = on.kv.clone();
        let boot = on.boots() + 1;
        on.run(move |host| async move { software(host, kv.open(), boot).await })
    });
    let endings =
        [Ending::Stopped("abort: a planted abort".to_owned()), Ending::Panicked, Ending::Returned(Ok(()))];
    for (boot, want) in (1..).zip(endings) {
        step_until(&mut sim, || host.ending().is_some());
        assert_eq!((host.boots(), host.ending()), (boot, Some(want)));
        sim.crash("node-1");
        if boot % 2 == 0 {
            host.kill();
        } else {
            host.power_loss();
        }
        sim.bounce("node-1");
    }
    step_until(&mut sim, || host.kv.position().1 == 4);
    // Alive: paused it stands still, killed from outside it keeps what it synced.
    host.gate.pause();
    for _ in 0..1000 {
        sim.step().expect("the simulation goes on");
    }
    assert_eq!(host.ending(), None);
    host.gate.resume();
    host.clock.leap(Duration::from_secs(2000));
    step_until(&mut sim, || host.ending() == Some(Ending::Returned(Ok(()))));
    sim.crash("node-1");
    host.power_loss();
    let file = futures::executor::block_on(async {
        use benteng_host::Disk;
        let file = host.disk.open(Path::new("/d/f"), Open::Read).await?;
        file.read_at(0, 10).await
    });
    assert_eq!(file.expect("is there"), "1234");
    assert_eq!(host.kv.open().get(b"boot").expect("reads").as_deref(), Some(&b"4"[..]));
}

/// Two hosts that talk, draw, write and tick; returns all that they saw.
fn trace(seed: u64) -> Vec<String> {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut sim = builder(seed).build();
    let (server, client) = (SimHost::new("server", seed), SimHost::new("client", seed));
    client.clock.set_rate(1_050_000);
    sim.host("server", move || {
        server.run(|host: Host| async move {
            let mut listener = host.net.listen("server:1").await?;
            loop {
                let (mut connection, _) = listener.accept().await?;
                let mut buf = [0; 64];
                while let Ok(n @ 1..) = connection.read(&mut buf).await {
                    if connection.write_all(&buf[..n]).await.is_err() {
                        break;
                    }
                }
            }
            #[expect(unreachable_code)]
            Ok::<(), benteng_host::Error>(())
        })
    });
    let (done, out) = (client.clone(), seen.clone());
    sim.host("client", move || {
        let out = out.clone();
        client.run(|host: Host| async move {
            let mut connection = host.net.connect("server:1").await?;
            let note = |what: String| out.lock().unwrap_or_else(PoisonError::into_inner).push(what);
            for _ in 0..50 {
                let id: [u8; 16] = benteng_host::random_array(&*host.random);
                if connection.write_all(&id).await.is_err() {
                    break;
                }
                let mut answer = [0; 16];
                let Ok(n @ 1..) = connection.read(&mut answer).await else { break };
                note(format!("{:?} {:?} {:?}", host.clock.now(), host.clock.wall(), &answer[..n]));
                sleep(&*host.clock, Duration::from_micros(700)).await;
            }
            Ok::<(), benteng_host::Error>(())
        })
    });
    step_until(&mut sim, || done.ending().is_some());
    drop(sim);
    std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn one_seed_is_one_run() {
    let first = trace(3);
    assert!(first.len() > 20, "{first:?}");
    assert_eq!(first, trace(3));
    assert_ne!(first, trace(4));
}
