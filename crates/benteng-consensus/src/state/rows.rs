//! The state as readers see it: keys without group and installation, values opened.

use std::sync::Arc;

use benteng_host::{KvView, Visit, prefix_end};
use benteng_keys::ValueOpener;
use bytes::Bytes;

use super::hot::Hot;
use crate::damage::Damage;

/// The group's rows, plain: keys without prefix, values opened.
pub(crate) struct Rows {
    pub(super) view: Arc<dyn KvView>,
    /// Of group and installation.
    pub(super) prefix: Bytes,
    pub(super) opener: Arc<ValueOpener>,
    /// Told when a row does not open (S6).
    pub(super) damage: Damage,
    /// What is kept in memory, and the age of the view.
    pub(super) hot: Option<(Arc<Hot>, u64)>,
}

impl Rows {
    fn full(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    fn open(&self, full: &[u8], sealed: &[u8]) -> benteng_host::Result<Bytes> {
        let damaged = |e| {
            self.damage.meet_row();
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
        let walked =
            if back { self.view.scan_back(&from, &to, each) } else { self.view.scan(&from, &to, each) };
        walked.map_err(|e| self.damage.note(e))?;
        failed.map_or(Ok(()), Err)
    }
}

impl KvView for Rows {
    fn get(&self, key: &[u8]) -> benteng_host::Result<Option<Bytes>> {
        let kept = self.hot.as_ref().and_then(|(hot, age)| hot.get(*age, key));
        if kept.is_some() {
            return Ok(kept);
        }
        let full = self.full(key);
        let sealed = self.view.get(&full).map_err(|e| self.damage.note(e))?;
        let value = sealed.map(|sealed| self.open(&full, &sealed)).transpose()?;
        if let Some((hot, age)) = &self.hot
            && let Some(value) = &value
        {
            hot.put(*age, key, value);
        }
        Ok(value)
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
