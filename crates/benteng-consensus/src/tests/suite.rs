//! openraft's storage suite on the real store, and again with the store closed and opened anew
//! between every two calls: the suite itself never reopens, so alone it says little of durability.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use benteng_host::Host;
use benteng_host::real::{self, RocksKv, RocksOptions};
use benteng_keys::{RecordKeys, RootKey};
use benteng_meta::ids::*;
use futures::Stream;
use openraft::StorageError;
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::SnapshotOf;
use uuid::Uuid;

use crate::log::{LogCipher, LogOptions, LogStore};
use crate::machine::{Machine, SnapshotData};
use crate::runtime::{self, Registration};
use crate::state::State;
use crate::types::*;

/// What a store is opened from.
#[derive(Clone)]
struct Place {
    host: Host,
    dir: PathBuf,
    root: Arc<RootKey>,
}

const STORE: StoreId = StoreId(Uuid::from_u128(7));

impl Place {
    fn new(dir: &Path) -> Place {
        let root = Arc::new(RootKey::generate(&real::SystemEntropy::new()));
        Place { host: real::host(), dir: dir.to_owned(), root }
    }

    async fn log(&self) -> LogStore {
        let options = LogOptions { segment_bytes: 64 << 10, cache_bytes: 256 };
        let cipher = Arc::new(LogCipher(RecordKeys::new(&self.root, STORE.0, "log")));
        let dir = self.dir.join("raft");
        LogStore::open(&self.host, dir, STORE.0, &options, cipher).await.expect("the log opens").0
    }

    async fn machine(&self) -> Machine {
        let kv = RocksKv::open(&self.dir.join("kv"), &RocksOptions::default()).expect("RocksDB opens");
        let state =
            State::open(&self.host, kv, &self.root, STORE, GroupId::MAIN).await.expect("the state opens");
        Machine::new(self.host.clone(), Arc::new(state), None).expect("the state is readable")
    }
}

struct Plain;

impl StoreBuilder<Types, LogStore, Machine, (tempfile::TempDir, Registration)> for Plain {
    async fn build(
        &self,
    ) -> Result<((tempfile::TempDir, Registration), LogStore, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::new(dir.path());
        let registration = runtime::register(place.host.clone());
        Ok(((dir, registration), place.log().await, place.machine().await))
    }
}

/// Opens the log for each call and closes it behind.
#[derive(Clone)]
struct ReopenedLog(Place);

impl ReopenedLog {
    async fn close(log: LogStore) {
        log.close().await.expect("the log closes");
    }
}

impl RaftLogReader<Types> for ReopenedLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let mut log = self.0.log().await;
        let out = log.try_get_log_entries(range).await;
        ReopenedLog::close(log).await;
        out
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let mut log = self.0.log().await;
        let out = log.read_vote().await;
        ReopenedLog::close(log).await;
        out
    }
}

impl RaftLogStorage<Types> for ReopenedLog {
    type LogReader = ReopenedLog;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let mut log = self.0.log().await;
        let out = log.get_log_state().await;
        ReopenedLog::close(log).await;
        out
    }

    async fn get_log_reader(&mut self) -> ReopenedLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let mut log = self.0.log().await;
        let out = log.save_vote(vote).await;
        ReopenedLog::close(log).await;
        out
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut log = self.0.log().await;
        let entries: Vec<Entry> = entries.into_iter().collect();
        let last = entries.last().map(|entry| entry.log_id.index);
        let out = log.append(entries, IOFlushed::noop()).await;
        if let Some(last) = last {
            log.durable(last).await?;
        }
        ReopenedLog::close(log).await;
        callback.io_completed(Ok(()));
        out
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let mut log = self.0.log().await;
        let out = log.truncate_after(last_log_id).await;
        ReopenedLog::close(log).await;
        out
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let mut log = self.0.log().await;
        let out = log.purge(log_id).await;
        ReopenedLog::close(log).await;
        out
    }
}

/// Opens the state for each call; what a call did is flushed before the store is closed.
struct ReopenedMachine(Place);

impl RaftStateMachine<Types> for ReopenedMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = ReopenedMachine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.0.machine().await.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        let mut machine = self.0.machine().await;
        machine.apply(entries).await?;
        machine.build_snapshot().await.map(drop)
    }

    async fn get_snapshot_builder(&mut self) -> ReopenedMachine {
        ReopenedMachine(self.0.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        self.0.machine().await.install_snapshot(meta, data).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, SnapshotData>>, io::Error> {
        // The view would keep RocksDB open: hand out what it covers, with an empty body.
        let current = self.0.machine().await.get_current_snapshot().await?;
        Ok(current
            .map(|s| SnapshotOf::<Types, SnapshotData> { meta: s.meta, snapshot: SnapshotData::Received(0) }))
    }
}

impl RaftSnapshotBuilder<Types> for ReopenedMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, SnapshotData>, io::Error> {
        let built = self.0.machine().await.build_snapshot().await?;
        Ok(SnapshotOf::<Types, SnapshotData> { meta: built.meta, snapshot: SnapshotData::Received(0) })
    }
}

struct Reopened;

impl StoreBuilder<Types, ReopenedLog, ReopenedMachine, (tempfile::TempDir, Registration)> for Reopened {
    async fn build(
        &self,
    ) -> Result<((tempfile::TempDir, Registration), ReopenedLog, ReopenedMachine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::new(dir.path());
        let registration = runtime::register(place.host.clone());
        Ok(((dir, registration), ReopenedLog(place.clone()), ReopenedMachine(place)))
    }
}

#[tokio::test]
async fn openrafts_suite_passes_on_the_real_store() {
    Suite::test_all(Plain).await.expect("openraft's storage suite");
}

#[tokio::test]
async fn openrafts_suite_passes_with_a_reopening_between_every_two_calls() {
    Suite::test_all(Reopened).await.expect("openraft's storage suite, reopened");
}
