//! Boot: decides what of an earlier process's journal is kept, cut, or damage.
//!
//! - Sealed segments end where the newest base says, and every record below is valid.
//! - In the newest segment everything up to the greatest claim is acknowledged: a bad
//!   record there is damage. The first bad record behind it is a torn tail, cut (J2).
//! - Valid records behind the greatest claim may lie in the page cache only. They are
//!   copied into a fresh segment, whose base closes the old one at the claim (J4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use benteng_host::planted::{Bug, planted};
use benteng_host::probe;
use bytes::Bytes;

use crate::base::{Base, Closed, decode_release};
use crate::begin::{Active, Ground, Plan, TailRecord};
use crate::error::Error;
use crate::journal::Replayed;
use crate::options::{Carry, OnDamage, Replay};
use crate::read::{UNAUTHENTIC, opened};
use crate::record::{Header, Position, SegmentNo, own};
use crate::scan::{Found, Step, Walk};
use crate::segment::HEADER_BYTES;
use crate::sticky::Stickies;
use crate::table::{Reader, Table};

/// A stretch of a segment whose records are lost ([`OnDamage::List`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentNo,
    /// First byte.
    pub offset: u64,
    /// Bytes up to the next valid record or the segment's end.
    pub len: u64,
    /// What is wrong.
    pub why: String,
}

/// Calls the visitor for each record of callers.
pub(crate) type Visitor<'a> = dyn FnMut(Replayed) -> Result<(), Error> + Send + 'a;

/// What recovery found.
pub(crate) struct Recovered {
    pub(crate) active: Active,
    pub(crate) sticky: Stickies,
    pub(crate) torn_bytes_cut: u64,
    pub(crate) damaged: Vec<Damage>,
}

/// The newest segment of the last boot, surveyed by its headers.
struct Newest {
    number: SegmentNo,
    reader: Reader,
    boot: u32,
    base: Base,
    /// Greatest claim: everything below is acknowledged.
    claimed: u64,
    /// End of the file.
    len: u64,
}

pub(crate) struct Recovery<'a> {
    ground: &'a Ground,
    table: &'a Arc<Table>,
    visit: &'a mut Visitor<'a>,
    sticky: Stickies,
    damaged: Vec<Damage>,
    live: BTreeMap<SegmentNo, Closed>,
    /// Segments whose files are there.
    files: BTreeSet<SegmentNo>,
}

impl<'a> Recovery<'a> {
    pub(crate) fn new(
        ground: &'a Ground,
        table: &'a Arc<Table>,
        visit: &'a mut Visitor<'a>,
        files: BTreeSet<SegmentNo>,
    ) -> Recovery<'a> {
        let sticky = Stickies::new(&ground.options.sticky);
        Recovery { ground, table, visit, sticky, damaged: Vec::new(), live: BTreeMap::new(), files }
    }

    /// Recovers a journal whose newest segment is `number` and that once reached `watermark`.
    pub(crate) async fn run(
        mut self,
        number: SegmentNo,
        watermark: Option<Position>,
    ) -> Result<Recovered, Error> {
        let newest = self.survey(number).await?;
        self.live = newest.base.live.iter().map(|closed| (closed.number, *closed)).collect();
        let mut walk = newest.walk(newest.claimed);
        self.read_newest_state(&newest, &mut walk).await?;

        let sealed: Vec<Closed> = self.live.values().copied().collect();
        for closed in sealed {
            self.table.insert(closed, true, None);
            self.check_file(closed)?;
            if closed.number >= self.ground.options.replay_from && self.files.contains(&closed.number) {
                self.replay_sealed(closed).await?;
            }
        }
        let closed = self.replay_newest(&newest).await?;
        let (tail, end, torn_bytes_cut) = self.tail(&newest, &closed).await?;
        if let Some(mark) = watermark
            && mark > (Position { segment: number, offset: end })
        {
            let why = format!("the log once reached segment {} byte {} (J7)", mark.segment, mark.offset);
            return Err(Error::damaged(number, end, why));
        }
        let active = self.switch(&newest, closed, tail).await?;
        Ok(Recovered { active, sticky: self.sticky, torn_bytes_cut, damaged: self.damaged })
    }

    /// Finds base and greatest claim of the newest segment.
    async fn survey(&mut self, number: SegmentNo) -> Result<Newest, Error> {
        let reader = self.table.open(number).await?;
        let header = self.table.header(number, &*reader.file).await?;
        let len = reader.file.len().await?;
        let mut walk = Walk::new(reader.file.clone(), reader.life, HEADER_BYTES, 0, len);
        let base = match walk.next().await? {
            Step::Record(found) if found.header.kind == own::BASE => {
                let body = plain(&mut walk, &reader, number, &found).await?;
                Base::decode(&body)
                    .ok_or_else(|| Error::damaged(number, HEADER_BYTES, "its base is malformed"))?
            }
            _ => return Err(Error::damaged(number, HEADER_BYTES, "its first record, the base, is bad")),
        };
        let mut claimed = walk.at();
        loop {
            match walk.next().await? {
                Step::Record(found) => claimed = claimed.max(self.claim_of(number, &base, &found)),
                Step::End => break,
                Step::Bad(_) if planted(Bug::DamageCut) => break,
                Step::Bad(_) => {
                    let from = walk.at() + 1;
                    match walk.hunt(from).await? {
                        // A record behind a bad one: its header still tells what was durable.
                        Some(found) => claimed = claimed.max(self.claim_of(number, &base, &found)),
                        None => break,
                    }
                }
            }
        }
        Ok(Newest { number, reader, boot: header.boot, base, claimed, len })
    }

    /// Up to where a record proves the segment durable.
    fn claim_of(&self, number: SegmentNo, base: &Base, found: &Found) -> u64 {
        if planted(Bug::TailTrustedInPlace) {
            return found.end();
        }
        let by_claim = if found.header.claim.segment == number { found.header.claim.offset } else { 0 };
        // The base was durable before the segment got its name.
        let by_base = if found.header.number < base.records { found.end() } else { 0 };
        by_claim.max(by_base)
    }

    /// Releases and sticky records of the newest segment, up to its greatest claim.
    async fn read_newest_state(&mut self, newest: &Newest, walk: &mut Walk) -> Result<(), Error> {
        while let Some(found) = self.next(newest.number, walk, false).await? {
            if found.header.kind == own::RELEASE {
                let body = match plain(walk, &newest.reader, newest.number, &found).await {
                    // Listed by the replay; what it released is then missing, or released again.
                    Err(Error::Damaged { .. }) if self.lists_damage() => continue,
                    other => other?,
                };
                let released = decode_release(&body)
                    .ok_or_else(|| Error::damaged(newest.number, found.offset, "its release is malformed"))?;
                self.live.retain(|number, _| !released.contains(number));
            } else if let Some(what) = self.sticky.carry(found.header.kind) {
                let body = match what {
                    Carry::Whole => Some(plain(walk, &newest.reader, newest.number, &found).await?),
                    Carry::TagOnly => None,
                };
                self.sticky.note(found.header.kind, found.tag, body);
            }
        }
        Ok(())
    }

    /// J5: a file goes only after its release is durable, so a hole is damage.
    fn check_file(&mut self, closed: Closed) -> Result<(), Error> {
        let Closed { number, end, .. } = closed;
        let why = "the segment's file is missing";
        if self.files.contains(&number) {
            Ok(())
        } else if self.lists_damage() {
            self.damaged.push(Damage { segment: number, offset: 0, len: end, why: why.into() });
            Ok(())
        } else {
            Err(Error::damaged(number, 0, why))
        }
    }

    async fn replay_sealed(&mut self, closed: Closed) -> Result<(), Error> {
        let reader = match self.table.open(closed.number).await {
            Err(Error::Damaged { segment, offset, why }) if self.lists_damage() => {
                self.damaged.push(Damage { segment, offset, len: closed.end, why });
                return Ok(());
            }
            other => other?,
        };
        let mut walk = Walk::new(reader.file.clone(), reader.life, HEADER_BYTES, 0, closed.end);
        while let Some(found) = self.next(closed.number, &mut walk, true).await? {
            self.replay(closed.number, &reader, &mut walk, found).await?;
        }
        Ok(())
    }

    /// Replays the acknowledged part of the newest segment; returns what closes it.
    async fn replay_newest(&mut self, newest: &Newest) -> Result<Closed, Error> {
        let mut walk = newest.walk(newest.claimed);
        let mut history = 0;
        while let Some(found) = self.next(newest.number, &mut walk, true).await? {
            history += u64::from(found.header.is_history());
            self.replay(newest.number, &newest.reader, &mut walk, found).await?;
        }
        let closed = Closed { number: newest.number, end: newest.claimed, records: walk.number(), history };
        self.table.insert(closed, true, None);
        Ok(closed)
    }

    /// The next record of a stretch in which every record must be valid.
    async fn next(&mut self, number: SegmentNo, walk: &mut Walk, list: bool) -> Result<Option<Found>, Error> {
        loop {
            let why = match walk.next().await? {
                Step::Record(found) => return Ok(Some(found)),
                Step::End => return Ok(None),
                Step::Bad(why) => why,
            };
            let offset = walk.at();
            // J2: something later proves that this was durable. Never cut.
            if !self.lists_damage() {
                return Err(Error::damaged(number, offset, why));
            }
            let len = walk.skip_bad().await?;
            if list {
                self.damaged.push(Damage { segment: number, offset, len, why: why.into() });
            }
        }
    }

    async fn replay(
        &mut self,
        number: SegmentNo,
        reader: &Reader,
        walk: &mut Walk,
        found: Found,
    ) -> Result<(), Error> {
        let header = &found.header;
        if !header.is_history() {
            return Ok(());
        }
        let body = match self.ground.options.replay {
            Replay::TagsOnly => None,
            Replay::Bodies => match plain(walk, reader, number, &found).await {
                Ok(body) => header.is_sealed().then_some(body),
                Err(Error::Damaged { segment, offset, why }) if self.lists_damage() => {
                    self.damaged.push(Damage { segment, offset, len: header.stored_len(), why });
                    return Ok(());
                }
                Err(e) => return Err(e),
            },
        };
        let place = header.place(number, found.offset);
        (self.visit)(Replayed { place, kind: header.kind, tag: found.tag, body })
    }

    /// The valid records behind the greatest claim, where they end, and how much behind is cut.
    async fn tail(&mut self, newest: &Newest, closed: &Closed) -> Result<(Vec<TailRecord>, u64, u64), Error> {
        let file = newest.reader.file.clone();
        let mut walk = Walk::new(file, newest.reader.life, closed.end, closed.records, newest.len);
        if self.lists_damage() {
            // Behind a damaged stretch the count is unknown; the record itself tells it.
            walk.resync().await?;
        }
        let mut tail = Vec::new();
        let (end, torn_to) = loop {
            let at = walk.at();
            match walk.next().await? {
                Step::End | Step::Bad(_) => break (at, at),
                Step::Record(found) => {
                    let Some(stored) = walk.body(&found).await? else { break (at, found.end()) };
                    if !found.header.is_history() {
                        continue;
                    }
                    let damaged = || Error::damaged(newest.number, at, UNAUTHENTIC);
                    let Header { kind, .. } = found.header;
                    let body =
                        opened(&newest.reader, &found.header, &found.tag, stored).ok_or_else(damaged)?;
                    let sealed = found.header.is_sealed();
                    if self.sticky.carry(kind).is_some() {
                        probe("journal_sticky_in_tail");
                    }
                    tail.push(TailRecord { kind, tag: found.tag, body, sealed });
                }
            }
        };
        let mut torn_to = torn_to;
        let mut from = torn_to.max(end + 1);
        while let Some(found) = walk.hunt(from).await? {
            torn_to = found.end();
            from = found.offset + 1;
        }
        if torn_to > end {
            probe("journal_torn_tail_cut");
            if planted(Bug::TornTailIsDamage) {
                return Err(Error::damaged(newest.number, end, "the last batch is torn"));
            }
        }
        Ok((tail, end, torn_to - end))
    }

    /// Copies the tail into a fresh segment, durably, and only then shows it to the caller (J4).
    async fn switch(
        &mut self,
        newest: &Newest,
        closed: Closed,
        tail: Vec<TailRecord>,
    ) -> Result<Active, Error> {
        self.live.insert(closed.number, closed);
        // A segment without records of callers is needed by nobody: boots in a row take no room.
        let idle: Vec<SegmentNo> = self.live.values().filter(|c| c.history == 0).map(|c| c.number).collect();
        let kept = closed.history > 0;
        self.live.retain(|_, closed| closed.history > 0);
        let sticky = self.sticky.list();
        let plan = Plan {
            number: SegmentNo(newest.number.0 + 1),
            boot: newest.boot + 1,
            claim: Position { segment: closed.number, offset: closed.end },
            live: self.live.values().copied().collect(),
            sticky: &sticky,
            tail: &tail,
            need: 0,
        };
        let (active, places) = self.ground.begin(plan).await?;
        // Their files are recycled by whoever opens the journal, with all that no base names.
        idle.iter().for_each(|number| self.table.forget(*number));
        if kept {
            self.ground.trim(&self.table.path(closed.number), closed.end, newest.len).await;
        }
        for (place, record) in places.into_iter().zip(tail) {
            let plain = record.sealed.then(|| record.body.clone());
            let body = if self.ground.options.replay == Replay::Bodies { plain } else { None };
            (self.visit)(Replayed { place, kind: record.kind, tag: record.tag.clone(), body })?;
            self.sticky.note(record.kind, record.tag, Some(record.body));
        }
        Ok(active)
    }

    fn lists_damage(&self) -> bool {
        self.ground.options.on_damage == OnDamage::List
    }
}

impl Newest {
    fn walk(&self, end: u64) -> Walk {
        Walk::new(self.reader.file.clone(), self.reader.life, HEADER_BYTES, 0, end)
    }
}

/// The plain body of a record that must be valid.
async fn plain(walk: &mut Walk, reader: &Reader, segment: SegmentNo, found: &Found) -> Result<Bytes, Error> {
    let damaged = |why| Error::damaged(segment, found.offset, why);
    let stored = walk.body(found).await?.ok_or_else(|| damaged("the record's body fails its checksum"))?;
    opened(reader, &found.header, &found.tag, stored).ok_or_else(|| damaged(UNAUTHENTIC))
}
