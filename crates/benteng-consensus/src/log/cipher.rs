//! Record keys of `benteng_keys` behind the journal's trait: a key per segment (K1).

use std::sync::Arc;

use benteng_journal::{RecordCipher, SegmentCipher, Unauthentic};
use benteng_keys::{RECORD_OVERHEAD, RecordKey, RecordKeys};
use bytes::Bytes;

/// Seals the journal of one store.
pub(crate) struct LogCipher(pub(crate) RecordKeys);

struct Segment(RecordKey);

impl SegmentCipher for LogCipher {
    fn segment(&self, salt: &[u8; 32]) -> Arc<dyn RecordCipher> {
        Arc::new(Segment(self.0.segment(salt)))
    }
}

impl RecordCipher for Segment {
    fn seal(&self, record: u64, aad: &[u8], plain: &[u8]) -> Bytes {
        self.0.seal(record, aad, plain)
    }

    fn open(&self, record: u64, aad: &[u8], sealed: Bytes) -> Result<Bytes, Unauthentic> {
        self.0.open(record, aad, sealed).map_err(|_| Unauthentic)
    }

    fn overhead(&self) -> usize {
        RECORD_OVERHEAD
    }
}
