//! Random histories with crashes at any disk operation, held against a list in memory:
//! what was acknowledged is there, in order, and nothing is invented (I1, J1 to J7).

use std::cell::RefCell;
use std::time::Duration;

use benteng_host::sleep;
use bytes::Bytes;
use proptest::prelude::*;

use super::world::Loss;
use super::{Bench, ENTRY, VOTE};
use crate::{Body, Error, Journal, Opened, Record, Release, Replayed, SegmentNo};

#[derive(Clone, Debug)]
enum Step {
    Submit {
        sizes: Vec<u16>,
        raw: bool,
        vote: bool,
        claimed: bool,
        wait: bool,
    },
    Sleep(u8),
    Roll,
    /// Releases this share (of 256) of the live segments.
    Release(u8),
    Settle,
}

#[derive(Clone, Debug)]
struct Boot {
    steps: Vec<Step>,
    crash_in: Option<u16>,
    /// Crashes while opening, first.
    opening: Option<u8>,
    loss: Option<u8>,
    fail_sync: Option<u8>,
    close: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let submit = (
        proptest::collection::vec(0..3000_u16, 0..6),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    prop_oneof![
        6 => submit.prop_map(|(sizes, raw, vote, claimed, wait)| Step::Submit { sizes, raw, vote, claimed, wait }),
        1 => (0..30_u8).prop_map(Step::Sleep),
        1 => Just(Step::Roll),
        1 => any::<u8>().prop_map(Step::Release),
        1 => Just(Step::Settle),
    ]
}

fn boot() -> impl Strategy<Value = Boot> {
    (
        proptest::collection::vec(step(), 0..25),
        proptest::option::of(1..300_u16),
        proptest::option::weighted(0.3, 1..50_u8),
        proptest::option::weighted(0.8, 0..3_u8),
        proptest::option::weighted(0.1, 1..20_u8),
        any::<bool>(),
    )
        .prop_map(|(steps, crash_in, opening, loss, fail_sync, close)| Boot {
            steps,
            crash_in,
            opening,
            loss,
            fail_sync,
            close,
        })
}

#[derive(Clone, Debug, PartialEq)]
struct Written {
    kind: u8,
    tag: Bytes,
    /// Plain; `None` for raw ones.
    body: Option<Bytes>,
}

/// What the journal must show.
#[derive(Default)]
struct Model {
    log: Vec<Written>,
    /// So many of them are acknowledged.
    acknowledged: usize,
    /// The newest record of a segment that was released, or asked to be: all before may be gone.
    released: usize,
    next: u64,
}

impl Model {
    fn record(&mut self, size: u16, raw: bool, vote: bool) -> Record {
        self.next += 1;
        let tag = Bytes::from(self.next.to_string());
        let body = Bytes::from(vec![self.next as u8; usize::from(size)]);
        let kind = if vote { VOTE } else { ENTRY };
        self.log.push(Written { kind, tag: tag.clone(), body: (!raw).then(|| body.clone()) });
        let half = body.len() / 2;
        let body =
            if raw { Body::Raw(vec![body.slice(..half), body.slice(half..)]) } else { Body::Seal(body) };
        Record { kind, tag, body }
    }

    /// Holds a replay against the model, and forgets what the crash took.
    fn check(&mut self, opened: &Opened, seen: &[Replayed]) {
        let seen: Vec<Written> =
            seen.iter().map(|r| Written { kind: r.kind, tag: r.tag.clone(), body: r.body.clone() }).collect();
        let from = match seen.first() {
            Some(first) => self.log.iter().position(|w| w == first).expect("nothing is invented"),
            None => self.log.len().min(self.acknowledged),
        };
        let to = from + seen.len();
        assert!(
            self.log.len() >= to && self.log[from..to] == seen[..],
            "in order, nothing invented or missing"
        );
        assert!(to >= self.acknowledged, "I1: acknowledged up to {}, found up to {to}", self.acknowledged);
        assert!(
            seen.is_empty() || from <= self.released,
            "J5: {from} is the first, {} released",
            self.released
        );
        assert!(
            !seen.is_empty() || self.released >= self.acknowledged || self.acknowledged == 0,
            "I1: all is gone"
        );
        self.log.truncate(to);
        self.acknowledged = to;
        for (kind, whole) in [(VOTE, true), (ENTRY, false)] {
            let newest = self.log.iter().rev().find(|w| w.kind == kind);
            let carried = opened.checkpoint.iter().find(|c| c.0 == kind);
            assert_eq!(carried.map(|c| &c.1), newest.map(|w| &w.tag), "J5: the newest of kind {kind}");
            if let (Some(carried), Some(Some(body)), true) = (carried, newest.map(|w| &w.body), whole) {
                assert_eq!(carried.2.as_ref(), Some(body));
            }
        }
    }
}

async fn live(journal: &Journal, bench: &Bench, model: &RefCell<Model>, boot: &Boot, seen: &[Replayed]) {
    let mut waiting = Vec::new();
    // Which record of the model lies in which segment.
    let first = model.borrow().log.len() - seen.len();
    let mut places: Vec<(SegmentNo, usize)> =
        seen.iter().enumerate().map(|(i, record)| (record.place.segment, first + i)).collect();
    for step in &boot.steps {
        match step {
            Step::Submit { sizes, raw, vote, claimed, wait } => {
                let records =
                    sizes.iter().map(|size| model.borrow_mut().record(*size, *raw, *vote)).collect();
                let upto = model.borrow().log.len();
                let submitted = match claimed {
                    true => journal.submit_claimed(records).await,
                    false => journal.submit(records).await,
                };
                waiting.push((submitted.expect("runs"), upto));
                if *wait {
                    settle(&mut waiting, model, &mut places).await;
                }
            }
            Step::Sleep(ms) => sleep(&*bench.world.host().clock, Duration::from_millis(u64::from(*ms))).await,
            Step::Roll => drop(journal.roll().await.expect("rolls")),
            Step::Release(share) => {
                settle(&mut waiting, model, &mut places).await;
                let segments = journal.segments();
                let n = segments.len() * usize::from(*share) / 256;
                let before = segments[n].number;
                let kept = places.iter().find(|(segment, _)| *segment >= before).map(|place| place.1);
                let kept = kept.unwrap_or(model.borrow().log.len());
                let released = model.borrow().released.max(kept);
                model.borrow_mut().released = released;
                journal.release(Release::Before(before)).await.expect("releases");
            }
            Step::Settle => settle(&mut waiting, model, &mut places).await,
        }
    }
    settle(&mut waiting, model, &mut places).await;
}

async fn settle(
    waiting: &mut Vec<(crate::Pending, usize)>,
    model: &RefCell<Model>,
    places: &mut Vec<(SegmentNo, usize)>,
) {
    for (pending, upto) in waiting.drain(..) {
        let found = pending.await.expect("durable");
        let first = upto - found.len();
        places.extend(found.iter().enumerate().map(|(i, place)| (place.segment, first + i)));
        let mut model = model.borrow_mut();
        model.acknowledged = model.acknowledged.max(upto);
    }
}

fn run(seed: u64, boots: &[Boot]) {
    let bench = Bench::new(seed);
    let model = RefCell::new(Model::default());
    for boot in boots.iter().chain([&Boot::last()]) {
        if let Some(n) = boot.opening {
            bench.world.crash_in(u64::from(n));
            let _: Option<Result<(), Error>> = bench.world.run(async { bench.open().await.map(drop) });
            if let Some(loss) = boot.loss {
                bench.world.power_loss([Loss::Keep, Loss::Drop, Loss::Random][usize::from(loss)]);
            }
        }
        bench.boot(async |journal, opened, seen| {
            model.borrow_mut().check(&opened, &seen);
            for record in &seen {
                let (tag, _) = journal.read(record.place).await.expect("what was replayed can be read");
                assert_eq!(tag, record.tag);
            }
            if let Some(n) = boot.crash_in {
                bench.world.crash_in(u64::from(n));
            }
            if let Some(n) = boot.fail_sync {
                bench.world.fail_sync_in(u64::from(n));
            }
            live(&journal, &bench, &model, boot, &seen).await;
            if boot.close {
                journal.close().await.expect("closes");
            }
        });
        bench.world.aborted();
        if let Some(loss) = boot.loss {
            bench.world.power_loss([Loss::Keep, Loss::Drop, Loss::Random][usize::from(loss)]);
        }
    }
}

impl Boot {
    fn last() -> Boot {
        Boot { steps: vec![], crash_in: None, opening: None, loss: None, fail_sync: None, close: true }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn i1_acknowledged_records_survive_every_crash_in_order(
        seed in any::<u64>(),
        boots in proptest::collection::vec(boot(), 1..5),
    ) {
        run(seed, &boots);
    }
}
