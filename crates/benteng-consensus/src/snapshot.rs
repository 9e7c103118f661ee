//! Snapshots between nodes: the sender keeps a view open under a session, the receiver pulls it
//! page by page, writes it under a prefix of its own and verifies that it is whole (S5).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use benteng_host::{Host, KvView, Mono, Visit};
use benteng_meta::codec;
use benteng_meta::ids::{GroupId, NodeId};
use benteng_rpc::{Lane, Request, Rpc};
use bytes::Bytes;

use crate::methods;
use crate::state::{Rows, State};
use crate::wire::*;

/// Bytes of rows in one page.
const PAGE_BYTES: usize = 512 << 10;
/// How long a receiver waits for a page.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);
/// A session that nobody pulled from for so long is dropped: its view pins old data.
const IDLE: Duration = Duration::from_secs(600);
/// Sessions open at once.
const SESSIONS_MAX: usize = 8;

struct Open {
    rows: Arc<Rows>,
    meta: WireSnapshotMeta,
    used: Mono,
}

/// The snapshots that this node is handing out.
pub(crate) struct Sessions {
    host: Host,
    open: Mutex<BTreeMap<u64, Open>>,
}

/// Ends its session when dropped.
pub(crate) struct Session {
    sessions: Arc<Sessions>,
    number: u64,
}

impl Session {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.number);
    }
}

impl Sessions {
    pub(crate) fn new(host: Host) -> Arc<Sessions> {
        Arc::new(Sessions { host, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session that lives as long as the returned guard.
    pub(crate) fn open(self: &Arc<Self>, rows: Arc<Rows>, meta: WireSnapshotMeta) -> Session {
        let number = self.insert(rows, meta);
        Session { sessions: self.clone(), number }
    }

    fn insert(&self, rows: Arc<Rows>, meta: WireSnapshotMeta) -> u64 {
        let number = benteng_host::random_u64(&*self.host.random);
        let now = self.host.clock.now();
        let mut open = self.lock();
        open.retain(|_, session| now.since(session.used) < IDLE);
        while open.len() >= SESSIONS_MAX {
            let oldest = open.iter().min_by_key(|(_, session)| session.used).map(|(number, _)| *number);
            oldest.and_then(|number| open.remove(&number));
        }
        open.insert(number, Open { rows, meta, used: now });
        number
    }

    /// Answers a pull; without a session it begins one over `state`.
    pub(crate) fn pull(&self, state: &State, pull: &WirePull) -> Result<Option<WirePage>, crate::Error> {
        let number = match pull.session {
            Some(number) => number,
            None => {
                let (rows, standing) = state.snapshot()?;
                let meta = crate::types::SnapshotMeta {
                    last_log_id: standing.last,
                    last_membership: standing.membership,
                };
                self.insert(Arc::new(rows), (&meta).into())
            }
        };
        let (rows, meta) = {
            let now = self.host.clock.now();
            let mut open = self.lock();
            let Some(session) = open.get_mut(&number) else { return Ok(None) };
            session.used = now;
            (session.rows.clone(), session.meta.clone())
        };
        let from = pull.after.as_ref().map_or_else(Vec::new, |after| [after, &[0][..]].concat());
        let mut page = WirePage { session: number, meta, rows: Vec::new(), more: false };
        let mut bytes = 0;
        rows.scan(&from, &[], &mut |key, value| {
            if bytes >= PAGE_BYTES {
                page.more = true;
                return Visit::Break(());
            }
            bytes += key.len() + value.len();
            page.rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            Visit::Continue(())
        })
        .map_err(benteng_meta::Error::from)?;
        Ok(Some(page))
    }
}

/// What has come of a snapshot that is pulled.
#[derive(Default)]
pub(crate) struct Pulled {
    session: Option<u64>,
    /// The last key that came.
    after: Option<Bytes>,
    covered: Option<WireSnapshotMeta>,
}

impl Pulled {
    /// Takes a page for the next one. Errors: it is not; the whole snapshot is worth nothing then.
    pub(crate) fn take(&mut self, page: &WirePage) -> Result<(), &'static str> {
        if self.covered.as_ref().is_some_and(|meta| *meta != page.meta) {
            return Err("the pages belong to different snapshots");
        }
        // Rows come in order, each once: a page that does not is no page of this snapshot.
        let mut last = self.after.as_ref();
        for (key, _) in &page.rows {
            if last.is_some_and(|last| key <= last) {
                return Err("the rows of a page are out of order");
            }
            last = Some(key);
        }
        if page.more && page.rows.is_empty() {
            return Err("a page holds nothing and says that more follows");
        }
        self.after = last.cloned();
        self.session = Some(page.session);
        self.covered = Some(page.meta.clone());
        Ok(())
    }
}

/// Pulls a whole snapshot from `from` under a fresh installation; nothing is switched yet.
///
/// Returns the installation and what the snapshot covers. Errors say what failed; what was
/// written stays invisible and is dropped at the next attempt or start.
pub(crate) async fn fetch(
    rpc: &Rpc,
    state: &State,
    from: NodeId,
    (group, epoch): (GroupId, u64),
    session: Option<u64>,
) -> Result<(u32, WireSnapshotMeta), String> {
    state.drop_abandoned().await.map_err(|e| e.to_string())?;
    let fresh = state.begin_install();
    let mut pulled = Pulled { session, ..Pulled::default() };
    loop {
        let body = codec::encode(&WirePull { session: pulled.session, after: pulled.after.clone() });
        let request = Request { method: methods::PULL_SNAPSHOT, group, epoch, parts: vec![body] };
        let reply = rpc.call(from, Lane::Chunks, request, PAGE_DEADLINE).await.map_err(|e| e.to_string())?;
        let body = reply.parts.first().map(|part| &part[..]).unwrap_or_default();
        let page: WirePage = codec::decode(body).map_err(|e| e.to_string())?;
        pulled.take(&page)?;
        let more = page.more;
        state.install_rows(fresh, page.rows).await.map_err(|e| e.to_string())?;
        benteng_host::probe("snapshot_page_installed");
        if !more {
            break;
        }
    }
    pulled.covered.map(|meta| (fresh, meta)).ok_or_else(|| "no page came".to_owned())
}
