//! The group's rows in the ordered store: prefixed by group and installation, values compressed
//! and sealed (K1). Readers see plain keys and plain values through [`Rows`].

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use benteng_host::planted::{Bug, planted};
use benteng_host::{Batch, Host, Kv, KvView, Op, Visit, prefix_end};
use benteng_keys::{RootKey, ValueOpener, ValueSealer};
use benteng_meta::codec::{self, Versioned};
use benteng_meta::ids::*;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

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
    /// A row could not be opened, by whoever read it (S6).
    damaged: Arc<AtomicBool>,
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
            damaged: Arc::default(),
        };
        let applied = match state.own::<AppliedRow>("applied") {
            Err(crate::Error::State(benteng_meta::Error::Decode { why, .. })) => {
                // Whatever the rows are, nobody can tell how far they go: log and peers have it all (S5, S6).
                tracing::error!(
                    why,
                    "the state cannot be read; it is dropped and rebuilt from log and peers"
                );
                state.forget().await.map_err(broken)?;
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
        self.rows(view, self.rows_prefix())
    }

    fn rows(&self, view: Arc<dyn KvView>, prefix: Bytes) -> Rows {
        Rows { view, prefix, opener: self.opener.clone(), damaged: self.damaged.clone() }
    }

    /// Whether somebody met a row that does not open: this state answers nobody any more (S6).
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    /// The rows as of now, unaffected by what is applied later, with where they stand.
    pub(crate) fn snapshot(&self) -> crate::Result<(Rows, Standing)> {
        if self.is_damaged() && !planted(Bug::DamagedStateServes) {
            // It is about to be dropped, or is empty already: it must not say that nothing is there (S6).
            let why = "this node's state is damaged and is being built anew".to_owned();
            return Err(benteng_meta::Error::Decode { what: AppliedRow::WHAT, why }.into());
        }
        let view = self.kv.snapshot().map_err(benteng_meta::Error::from)?;
        // Read from the snapshot itself (S4): the memory of it may be ahead of what was captured, or
        // behind, while a switch to a received snapshot is being flushed.
        let key = own_key(self.group, "applied");
        let (installation, standing) = match view.get(&key).map_err(benteng_meta::Error::from)? {
            None => (0, Standing::default()),
            Some(sealed) => {
                let bad = |why: String| benteng_meta::Error::Decode { what: AppliedRow::WHAT, why };
                let plain = self.opener.open(&key, &sealed).map_err(|e| {
                    self.damaged.store(true, Ordering::Release);
                    bad(e.to_string())
                })?;
                let row: AppliedRow = codec::decode(&plain)?;
                let membership = row.membership.try_into().map_err(bad)?;
                let last = row.last.map(LogId::from);
                (row.installation, Standing { last, membership, switched: row.switched })
            }
        };
        let prefix = rows_prefix(self.group, installation);
        Ok((self.rows(view, prefix), standing))
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
        let mut batch = Batch::default();
        self.seal_rows(&rows_prefix(self.group, installation), changes, &mut batch);
        self.put_applied(installation, &standing, &mut batch);
        self.kv.write(batch).await?;
        self.set_standing(standing);
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
        self.kv.write(batch).await?;
        if !planted(Bug::SwitchUnflushed) {
            self.kv.flush().await?;
        }
        self.installation.store(fresh, Ordering::Release);
        self.set_standing(standing);
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
        self.damaged.store(true, Ordering::Release);
        let mut batch = Batch::default();
        let first = rows_prefix(self.group, 0);
        batch.delete_range(first, prefix_end(&rows_prefix(self.group, u32::MAX)));
        batch.delete(own_key(self.group, "applied"));
        self.kv.write(batch).await?;
        self.kv.flush().await
    }
}

/// The group's rows, plain: keys without prefix, values opened.
pub(crate) struct Rows {
    view: Arc<dyn KvView>,
    prefix: Bytes,
    opener: Arc<ValueOpener>,
    damaged: Arc<AtomicBool>,
}

impl Rows {
    fn full(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    fn open(&self, full: &[u8], sealed: &[u8]) -> benteng_host::Result<Bytes> {
        let damaged = |e| {
            self.damaged.store(true, Ordering::Release);
            std::io::Error::new(std::io::ErrorKind::InvalidData, e)
        };
        self.opener
            .open(full, sealed)
            .map_err(|e| benteng_host::Error::new("open", "a row of the state", damaged(e)))
    }

    fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        back: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> benteng_host::Result<()> {
        let from = self.full(from);
        let to = if to.is_empty() { prefix_end(&self.prefix) } else { self.full(to) };
        let mut failed = None;
        let each = &mut |full: &[u8], sealed: &[u8]| match self.open(full, sealed) {
            Ok(value) => visit(full.get(self.prefix.len()..).unwrap_or_default(), &value),
            Err(e) => {
                failed = Some(e);
                Visit::Break(())
            }
        };
        if back {
            self.view.scan_back(&from, &to, each)?;
        } else {
            self.view.scan(&from, &to, each)?;
        }
        failed.map_or(Ok(()), Err)
    }
}

impl KvView for Rows {
    fn get(&self, key: &[u8]) -> benteng_host::Result<Option<Bytes>> {
        let full = self.full(key);
        self.view.get(&full)?.map(|sealed| self.open(&full, &sealed)).transpose()
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> benteng_host::Result<()> {
        self.walk(from, to, false, visit)
    }

    fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> benteng_host::Result<()> {
        self.walk(from, to, true, visit)
    }
}
