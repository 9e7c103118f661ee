//! Bugs that the simulator plants, to see its own checkers catch each of them: the "else" of the
//! rules in `docs/reliability.md`. A site asks [`planted`] in one line; without debug assertions that is
//! `false` at compile time, so that no release binary holds one. Nothing but the simulator calls [`plant`].

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $name:ident = $rule:literal,)+) => {
        /// A planted bug, by what it does wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug { $($(#[doc = $doc])+ $name,)+ }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)+];

            /// What it is called.
            pub fn name(self) -> &'static str {
                match self { $(Bug::$name => stringify!($name),)+ }
            }

            /// The rule that it breaks.
            pub fn rule(self) -> &'static str {
                match self { $(Bug::$name => $rule,)+ }
            }

            /// What it does, in a sentence.
            pub fn what(self) -> &'static str {
                match self { $(Bug::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

bugs! {
    // Journal.
    /// A batch is acknowledged without an fsync.
    FsyncSkipped = "J1",
    /// One fsync in ten is left out.
    FsyncSkippedOneInTen = "J1",
    /// A batch is acknowledged by the fsync that was under way when it joined.
    LateJoinersAcknowledged = "J1",
    /// A bad record in the middle, behind which later ones claim, is cut as if it were torn.
    DamageCut = "J2",
    /// A torn batch that nobody was told of is taken for damage.
    TornTailIsDamage = "J2",
    /// What is durable is never claimed while the journal is idle, and a vote is answered without its claim.
    ClaimOmitted = "J3",
    /// At boot whatever reads as valid counts as durable, where it lies.
    TailTrustedInPlace = "J4",
    /// Segments are recycled without a note of what was purged.
    PurgeForgotten = "J5",
    /// The only vote is recycled with its segment.
    VoteNotCarried = "J5",
    /// A segment of chunks goes before the index is durable that knows where they went.
    ReleasedBeforeFlush = "J5",
    /// A failed fsync is tried again, and the second one believed.
    FailedSyncRetried = "J6",
    /// A full device ends the process instead of making it wait.
    FullIsFatal = "J6",
    /// How far the log once reached is not looked at.
    WatermarkIgnored = "J7",
    // Raft and its state.
    /// A restarted leader resumes in its old term.
    LeaderRestored = "S1",
    /// Reads trust the leader's lease.
    LeaseRead = "S1",
    /// Reads are answered from the local replica without asking anybody.
    LocalRead = "S1",
    /// Entries count as appended before they are durable.
    AppendUnsynced = "S1",
    /// A vote is kept in memory only.
    VoteDropped = "S1",
    /// A vote is answered when it is written, not when it is durable.
    VoteUnsynced = "S1",
    /// Entries are applied before the own journal holds them.
    AppliedAheadOfLog = "S2",
    /// Raft starts on whatever log and state are found.
    StartUnchecked = "S3",
    /// A snapshot says where the state stood, and hands out what it became since.
    SnapshotOfLiveRows = "S4",
    /// The log is purged up to a snapshot that was never flushed.
    PurgedBeforeFlush = "S4",
    /// A received snapshot is written over the rows in use.
    InstalledOverLiveRows = "S5",
    /// A received snapshot is switched to and reported without a flush.
    SwitchUnflushed = "S5",
    /// A state that cannot be read makes a command a rejected one.
    BrokenStateRejects = "S6",
    /// A damaged state is read while it is being dropped.
    DamagedStateServes = "S6",
    /// A row that readers cannot open is an error for ever.
    DamagedRowStays = "S6",
    /// Calls of another recovery epoch are served.
    EpochIgnored = "S7",
    /// Three votes become one by themselves when a node goes.
    VotersFall = "S8",
    /// A snapshot leaves the state's own sequence behind.
    SequenceNotCarried = "S9",
    // Keys.
    /// A process seals values under the salt of an earlier one.
    ValueSaltReused = "K1",
    /// All journal segments share a salt.
    SegmentSaltReused = "K1",
    /// The frame counter restarts at each chunk.
    FrameCounterRestarts = "K2",
    // Commands and time.
    /// A command that comes twice is applied twice.
    AppliedTwice = "C1",
    /// The deadline is looked at before the idempotency id.
    DeadlineFirst = "C1",
    /// A rejection buries chunks that a live row names.
    RefusalBuriesLive = "C2",
    /// A time-out is taken for a failure.
    TimeoutIsFailure = "C3",
    /// Settling does not make sure that a late original is refused.
    SettleForgets = "C3",
    /// The leader stamps commands by its own wall clock.
    StampByWallClock = "C4",
    /// Site time follows the fastest clock, not the median.
    FastestClockWins = "C4",
    /// What a client wrote is asserted in apply.
    ApplyAsserts = "C5",
    /// A precondition is forgotten.
    PreconditionForgotten = "I2",
    // Chunks, placement, removal.
    /// A write is acknowledged with one durable copy.
    OneCopyEnough = "I1",
    /// A part is answered before its row is committed.
    PartRowLater = "O1",
    /// Chunks of the living incarnation that no row names yet are taken for orphans.
    LivingOrphans = "O1",
    /// A superseded gateway completes its writes.
    SupersededCommits = "O2",
    /// Too few copies are a refusal that kills the chunks.
    ReplaceIsRefusal = "O2",
    /// A placement group switches before its target is filled.
    SwitchBeforeFilled = "O3",
    /// A placement group switches while its target still lacks chunks.
    SwitchWhileLacking = "O3",
    /// What died is removed though a reader still uses it.
    FloorsIgnored = "O4",
    /// A floor that is not renewed is never voided.
    FloorNeverVoided = "O5",
    /// A reader whose floor was voided is served.
    VoidedReaderServed = "O5",
    /// Chunks are taken below the reserve.
    ReserveIgnored = "O6",
    // Honest reads.
    /// The scrub finds nothing.
    ScrubBlind = "I4",
    /// A damaged copy ends the read, though others are good.
    DamageIsFinal = "I4",
}

/// The planted bug's place in [`Bug::ALL`], from 1; 0: none.
static PLANTED: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Whether `bug` is planted in this process.
#[inline]
pub fn planted(bug: Bug) -> bool {
    cfg!(debug_assertions) && PLANTED.load(Ordering::Relaxed) == bug as usize + 1
}

/// Whether `bug` is planted and this is one of every `n` calls that ask.
#[inline]
pub fn planted_one_in(bug: Bug, n: u64) -> bool {
    planted(bug) && CALLS.fetch_add(1, Ordering::Relaxed) % n.max(1) == n.max(1) - 1
}

/// Plants `bug` for the rest of this process; for the simulator alone.
///
/// Errors: another one is planted, or this build has no debug assertions and so no bugs to plant.
pub fn plant(bug: Bug) -> Result<(), &'static str> {
    if !cfg!(debug_assertions) {
        return Err("a release build holds no planted bugs; build without --release");
    }
    let place = bug as usize + 1;
    let swapped = PLANTED.compare_exchange(0, place, Ordering::Relaxed, Ordering::Relaxed);
    swapped.map(drop).map_err(|_| "one process has one planted bug")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bug_has_a_name_a_rule_and_a_sentence_of_its_own() {
        let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        let sentences: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.what()).collect();
        assert_eq!((names.len(), sentences.len()), (Bug::ALL.len(), Bug::ALL.len()));
        for bug in Bug::ALL {
            assert!(bug.what().ends_with('.') && bug.rule().len() == 2, "{bug:?}");
            assert!(!planted(*bug), "none is planted by itself");
        }
    }

    #[test]
    fn the_bugs_break_every_rule_that_stands_in_code() {
        let rules: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.rule()).collect();
        let all = |letter: &str, n: u32| (1..=n).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
        for rule in [all("J", 7), all("S", 9), all("K", 2), all("C", 5), all("O", 6)].concat() {
            assert!(rules.contains(rule.as_str()), "no planted bug breaks {rule}");
        }
    }
}
