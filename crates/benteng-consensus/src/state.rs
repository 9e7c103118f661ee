//! The group's rows in the ordered store: prefixed by group and installation, values compressed
//! and sealed (K1). Readers see plain keys and plain values through [`Rows`].

mod hot; // rows that everybody asks for, kept in memory
mod rows; // what readers see

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use benteng_host::planted::{Bug, planted};
use benteng_host::{Batch, Host, Kv, KvView, Op, Verified, Visit, prefix_end};
use benteng_keys::{RootKey, ValueOpener, ValueSealer};
use benteng_meta::codec::{self, Versioned};
use benteng_meta::ids::*;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use hot::Hot;
pub(crate) use rows::Rows;

use crate::damage::Damage;
use crate::types::{LogId, StoredMembership};
use crate::wire::{WireLogId, WireStoredMembership};

/// Purpose of the values' keys under the root key.
const PURPOSE: &str = "state";
/// First byte of replicated rows: group, installation, row key.
const ROWS: u8 = b's';
/// First byte of rows that are this node's own: group, name.
const OWN: u8 = b'l';
/// First byte of salts: number.
const SALT: u8 = b'n';
/// Rows that are copied as one batch.
const COPY_ROWS: usize = 1000;

/// What was applied last; written in the same batch as what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppliedRow {
    pub(crate) installation: u32,
    pub(crate) last: Option<WireLogId>,
    pub(crate) membership: WireStoredMembership,
    pub(crate) switched: bool,
}
impl Versioned for AppliedRow {
    const WHAT: &'static str = "last applied";
}

/// Where the state stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    /// Nothing was applied since a snapshot was switched to: the log may still be behind it.
    pub(crate) switched: bool,
}

/// The state of one group on this node.
pub(crate) struct State {
    kv: Arc<dyn Kv>,
    group: GroupId,
    sealer: ValueSealer,
    opener: Arc<ValueOpener>,
    /// The installation whose rows count.
    installation: AtomicU32,
    installs: Mutex<Installs>,
    standing: RwLock<Standing>,
    damage: Damage,
    hot: Arc<Hot>,
}

/// Installations that are not switched to. A number is used once in a process: who receives a
/// snapshot may be cancelled while Raft still holds what it received.
#[derive(Default)]
struct Installs {
    /// The newest number.
    issued: u32,
    /// Begun, and neither switched to nor dropped.
    begun: BTreeSet<u32>,
    /// Of those, the ones that Raft may still switch to.
    kept: BTreeSet<u32>,
}

/// Where the salt of this number stands.
pub(crate) fn salt_key(number: u32) -> Bytes {
    [&[SALT][..], &number.to_be_bytes()].concat().into()
}

pub(crate) fn own_key(group: GroupId, name: &str) -> Bytes {
    let mut key = BytesMut::new();
    key.put_u8(OWN);
    key.put_u32(group.0);
    key.put_slice(name.as_bytes());
    key.freeze()
}

pub(crate) fn rows_prefix(group: GroupId, installation: u32) -> Bytes {
    let mut key = BytesMut::new();
    key.put_u8(ROWS);
    key.put_u32(group.0);
    key.put_u32(installation);
    key.freeze()
}

/// Draws the salt of this process and makes it durable before its first use (K1).
async fn draw_salt(
    host: &Host,
    kv: &Arc<dyn Kv>,
    opener: &ValueOpener,
) -> benteng_host::Result<(u32, [u8; 32])> {
    let mut next = 1;
    kv.scan(&[SALT], &[SALT + 1], &mut |key, value| {
        if let (Some(number), Ok(salt)) = (key.last_chunk::<4>(), <&[u8; 32]>::try_from(value)) {
            let number = u32::from_be_bytes(*number);
            opener.add(number, salt);
            next = next.max(number + 1);
        }
        Visit::Continue(())
    })?;
    let mut salt = benteng_host::random_array(&*host.random);
    if planted(Bug::ValueSaltReused) {
        salt = [1; 32];
    }
    let mut batch = Batch::default();
    batch.put(salt_key(next), salt.to_vec());
    kv.write(batch).await?;
    kv.flush().await?;
    opener.add(next, &salt);
    Ok((next, salt))
}

impl State {
    /// Opens the group's state; finishes or drops what a crashed installation left behind.
    pub(crate) async fn open(
        host: &Host,
        kv: Arc<dyn Kv>,
        root: &RootKey,
        store: StoreId,
        group: GroupId,
    ) -> crate::Result<State> {
        let opener = Arc::new(ValueOpener::new(root, store, PURPOSE));
        let broken = |e: benteng_host::Error| crate::Error::State(e.into());
        let (number, salt) = draw_salt(host, &kv, &opener).await.map_err(broken)?;
        let sealer = ValueSealer::new(root, store, PURPOSE, number, salt);
        let state = State {
            kv,
            group,
            sealer,
            opener,
            installation: AtomicU32::new(0),
            installs: Mutex::default(),
            standing: RwLock::default(),
            damage: Damage::default(),
            hot: Arc::default(),
        };
        let applied = match state.own::<AppliedRow>("applied") {
            Err(crate::Error::State(benteng_meta::Error::Decode { why, .. })) => {
                // Whatever the rows are, nobody can tell how far they go: log and peers have it all (S5, S6).
                tracing::error!(
                    why,
                    "the state cannot be read; it is dropped and rebuilt from log and peers"
                );
                state.forget().await.map_err(broken)?;
                state.damage.is_over();
                None
            }
            read => read?,
        };
        if let Some(row) = applied {
            state.installation.store(row.installation, Ordering::Release);
            state.installs().issued = row.installation;
            state.set_standing(Standing {
                last: row.last.map(LogId::from),
                membership: row.membership.try_into().map_err(|why| {
                    crate::Error::State(benteng_meta::Error::Decode { what: AppliedRow::WHAT, why })
                })?,
                switched: row.switched,
            });
        }
        state.drop_others().await.map_err(broken)?;
        Ok(state)
    }

    fn own<T: Versioned>(&self, name: &str) -> crate::Result<Option<T>> {
        let key = own_key(self.group, name);
        let Some(sealed) = self.kv.get(&key).map_err(benteng_meta::Error::from)? else { return Ok(None) };
        let plain = self
            .opener
            .open(&key, &sealed)
            .map_err(|e| benteng_meta::Error::Decode { what: T::WHAT, why: e.to_string() })?;
        Ok(Some(codec::decode(&plain)?))
    }

    fn installs(&self) -> MutexGuard<'_, Installs> {
        self.installs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the rows of every installation but the current one: at a start nothing else is under way.
    async fn drop_others(&self) -> benteng_host::Result<()> {
        let current = self.rows_prefix();
        let first = rows_prefix(self.group, 0);
        let last = prefix_end(&rows_prefix(self.group, u32::MAX));
        let mut batch = Batch::default();
        batch.delete_range(first, current.clone());
        batch.delete_range(prefix_end(&current), last);
        self.kv.write(batch).await
    }

    fn rows_prefix(&self) -> Bytes {
        rows_prefix(self.group, self.installation.load(Ordering::Acquire))
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_standing(&self, standing: Standing) {
        *self.standing.write().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// The rows as they are now: what `apply` reads. Only the apply task may use it.
    pub(crate) fn live(&self) -> Rows {
        let view: Arc<dyn KvView> = self.kv.clone();
        self.rows(view, self.rows_prefix(), self.hot.age())
    }

    /// `age`: of the view, if what is kept in memory may be read for it.
    fn rows(&self, view: Arc<dyn KvView>, prefix: Bytes, age: Option<u64>) -> Rows {
        let hot = age.map(|age| (self.hot.clone(), age));
        Rows { view, prefix, opener: self.opener.clone(), damage: self.damage.clone(), hot }
    }

    /// Whether somebody met a row that does not open: this state answers nobody any more (S6).
    pub(crate) fn is_damaged(&self) -> bool {
        self.damage.is_met()
    }

    /// Reads a part of the store again, from the device (I4). Errors: damage is `InvalidData`.
    pub(crate) async fn verify(&self, after: Option<Bytes>, budget: u64) -> benteng_host::Result<Verified> {
        self.kv.verify(after, budget).await
    }

    /// The store beneath fails its own checksums: nobody reads it any more, and [`State::forget`] drops all of it.
    pub(crate) fn store_is_damaged(&self) {
        self.damage.meet_store();
    }

    /// How often the store was given up for damage.
    pub(crate) fn given_up(&self) -> u64 {
        self.kv.condemned()
    }

    /// The rows as of now, unaffected by what is applied later.
    pub(crate) fn view(&self) -> crate::Result<Rows> {
        self.answers()?;
        if let Some((view, prefix, age)) = self.hot.view() {
            return Ok(self.rows(view, prefix, Some(age)));
        }
        if let Some(age) = self.hot.age() {
            let view = self.kv.snapshot().map_err(benteng_meta::Error::from)?;
            let prefix = self.rows_prefix();
            // No write began meanwhile, and no switch: view and installation belong together.
            if self.hot.age() == Some(age) {
                self.hot.put_view(age, &view, &prefix);
                return Ok(self.rows(view, prefix, Some(age)));
            }
        }
        let (view, sealed) = self.capture()?;
        let installation = match sealed {
            None => 0,
            Some(sealed) => self.open_applied(&sealed)?.installation,
        };
        Ok(self.rows(view, rows_prefix(self.group, installation), None))
    }

    /// As [`State::view`], with where they stand.
    pub(crate) fn snapshot(&self) -> crate::Result<(Rows, Standing)> {
        let (view, sealed) = self.capture()?;
        let (installation, standing) = match sealed {
            None => (0, Standing::default()),
            Some(sealed) => {
                let row = self.open_applied(&sealed)?;
                let bad = |why: String| benteng_meta::Error::Decode { what: AppliedRow::WHAT, why };
                let membership = row.membership.try_into().map_err(bad)?;
                let last = row.last.map(LogId::from);
                (row.installation, Standing { last, membership, switched: row.switched })
            }
        };
        let prefix = rows_prefix(self.group, installation);
        Ok((self.rows(view, prefix, None), standing))
    }

    /// Errors: the state is damaged. It is about to be dropped, or is empty already: it must not say that nothing is
    /// there (S6).
    fn answers(&self) -> crate::Result<()> {
        if self.is_damaged() && !planted(Bug::DamagedStateServes) {
            let why = "this node's state is damaged and is being built anew".to_owned();
            return Err(benteng_meta::Error::Decode { what: AppliedRow::WHAT, why }.into());
        }
        Ok(())
    }

    /// A view of the store, and what it says was applied last. Read from the view itself (S4): the memory
    /// of it may be ahead of what was captured, or behind, while a switch to a received snapshot is being flushed.
    fn capture(&self) -> crate::Result<(Arc<dyn KvView>, Option<Bytes>)> {
        self.answers()?;
        let view = self.kv.snapshot().map_err(benteng_meta::Error::from)?;
        let read = view.get(&own_key(self.group, "applied")).map_err(|e| self.damage.note(e));
        let sealed = read.map_err(benteng_meta::Error::from)?;
        Ok((view, sealed))
    }

    fn open_applied(&self, sealed: &[u8]) -> crate::Result<AppliedRow> {
        let plain = self.opener.open(&own_key(self.group, "applied"), sealed).map_err(|e| {
            self.damage.meet_row();
            benteng_meta::Error::Decode { what: AppliedRow::WHAT, why: e.to_string() }
        })?;
        Ok(codec::decode(&plain)?)
    }

    fn seal_rows(&self, prefix: &[u8], batch: Batch, out: &mut Batch) {
        let full = |key: &[u8]| Bytes::from([prefix, key].concat());
        for op in batch.ops {
            match op {
                Op::Put(key, value) => {
                    let key = full(&key);
                    let sealed = self.sealer.seal(&key, &value);
                    out.put(key, sealed);
                }
                Op::Delete(key) => out.delete(full(&key)),
                Op::DeleteRange(from, to) => out.delete_range(full(&from), full(&to)),
            }
        }
    }

    fn put_applied(&self, installation: u32, standing: &Standing, out: &mut Batch) {
        let row = AppliedRow {
            installation,
            last: standing.last.as_ref().map(WireLogId::from),
            membership: (&standing.membership).into(),
            switched: standing.switched,
        };
        let key = own_key(self.group, "applied");
        let sealed = self.sealer.seal(&key, &codec::encode(&row));
        out.put(key, sealed);
    }

    /// Writes what was applied, and that it was, in one batch.
    pub(crate) async fn commit(&self, changes: Batch, standing: Standing) -> benteng_host::Result<()> {
        let installation = self.installation.load(Ordering::Acquire);
        let again = self.hot.begin(&changes);
        let mut batch = Batch::default();
        self.seal_rows(&rows_prefix(self.group, installation), changes, &mut batch);
        self.put_applied(installation, &standing, &mut batch);
        self.kv.write(batch).await?;
        self.set_standing(standing);
        self.hot.end(again);
        Ok(())
    }

    /// Begins to receive a snapshot under a prefix of its own (S5): one that nothing was written under.
    pub(crate) fn begin_install(&self) -> u32 {
        let mut installs = self.installs();
        if planted(Bug::InstalledOverLiveRows) {
            return self.installation.load(Ordering::Acquire);
        }
        installs.issued += 1;
        let fresh = installs.issued;
        installs.begun.insert(fresh);
        fresh
    }

    /// `fresh` is whole and goes to Raft, who may switch to it at any time from now on.
    pub(crate) fn keep_install(&self, fresh: u32) {
        self.installs().kept.insert(fresh);
    }

    /// Raft has answered: it has switched to `fresh`, or never will.
    pub(crate) fn release_install(&self, fresh: u32) {
        self.installs().kept.remove(&fresh);
    }

    /// Removes what receivers that failed, or were cancelled, have left. Only while nobody receives.
    pub(crate) async fn drop_abandoned(&self) -> benteng_host::Result<()> {
        let mut batch = Batch::default();
        {
            let mut installs = self.installs();
            let Installs { begun, kept, .. } = &mut *installs;
            begun.retain(|number| {
                let keep = kept.contains(number);
                if !keep {
                    let prefix = rows_prefix(self.group, *number);
                    batch.delete_range(prefix.clone(), prefix_end(&prefix));
                }
                keep
            });
        }
        self.kv.write(batch).await
    }

    /// Writes received rows.
    pub(crate) async fn install_rows(
        &self,
        fresh: u32,
        rows: Vec<(Bytes, Bytes)>,
    ) -> benteng_host::Result<()> {
        let mut changes = Batch::default();
        for (key, value) in rows {
            if !planted(Bug::SequenceNotCarried) || key != benteng_meta::key::clock() {
                changes.put(key, value);
            }
        }
        let mut batch = Batch::default();
        self.seal_rows(&rows_prefix(self.group, fresh), changes, &mut batch);
        self.kv.write(batch).await
    }

    /// Copies all of `rows` under a fresh installation, page by page.
    pub(crate) async fn copy(&self, rows: &Rows) -> benteng_host::Result<u32> {
        let fresh = self.begin_install();
        self.keep_install(fresh);
        let mut from = Vec::new();
        loop {
            let mut page = Vec::new();
            rows.scan(&from, &[], &mut |key, value| {
                page.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                if page.len() < COPY_ROWS { Visit::Continue(()) } else { Visit::Break(()) }
            })?;
            let Some((last, _)) = page.last() else { return Ok(fresh) };
            from = [last, &[0][..]].concat();
            self.install_rows(fresh, page).await?;
        }
    }

    /// Switches to a received snapshot: one batch and a flush, then the old rows go (S5).
    pub(crate) async fn switch(&self, fresh: u32, standing: Standing) -> benteng_host::Result<()> {
        let mut batch = Batch::default();
        self.put_applied(fresh, &standing, &mut batch);
        self.hot.begin_anew();
        self.kv.write(batch).await?;
        if !planted(Bug::SwitchUnflushed) {
            self.kv.flush().await?;
        }
        self.installation.store(fresh, Ordering::Release);
        self.set_standing(standing);
        self.hot.end(Vec::new());
        benteng_host::probe("snapshot_switched");
        {
            let mut installs = self.installs();
            installs.begun.retain(|number| *number > fresh);
            installs.kept.retain(|number| *number > fresh);
        }
        // Older ones only: another snapshot may be on its way already.
        let mut batch = Batch::default();
        batch.delete_range(rows_prefix(self.group, 0), rows_prefix(self.group, fresh));
        self.kv.write(batch).await
    }

    /// Makes everything applied so far durable.
    pub(crate) async fn flush(&self) -> benteng_host::Result<()> {
        self.kv.flush().await
    }

    /// Forgets the state so that the next start rebuilds it from log and peers (S6).
    pub(crate) async fn forget(&self) -> benteng_host::Result<()> {
        // Nobody reads an emptied state: before anything goes.
        self.damage.meet_row();
        self.hot.begin_anew();
        if self.damage.is_of_store() {
            // Rows that are deleted would still be read by the next compaction.
            return self.kv.condemn().await;
        }
        let mut batch = Batch::default();
        let first = rows_prefix(self.group, 0);
        batch.delete_range(first, prefix_end(&rows_prefix(self.group, u32::MAX)));
        batch.delete(own_key(self.group, "applied"));
        self.kv.write(batch).await?;
        self.hot.end(Vec::new());
        self.kv.flush().await
    }
}
