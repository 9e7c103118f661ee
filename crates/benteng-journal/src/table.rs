//! Live segments by number, with a bounded set of open files.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use benteng_host::{Disk, File, Open};
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use crate::base::Closed;
use crate::cipher::{RecordCipher, SegmentCipher};
use crate::error::Error;
use crate::record::{Life, SegmentNo};
use crate::segment::{HEADER_BYTES, SegmentHeader, segment_name};
use crate::spares::Errand;

/// Sealed segments whose files stay open at most; a large store has tens of thousands.
const OPEN_FILES_MAX: usize = 128;

/// An open file of a segment and what its header says.
pub(crate) struct Reader {
    pub(crate) file: Arc<dyn File>,
    pub(crate) life: Life,
    pub(crate) cipher: Arc<dyn RecordCipher>,
}

/// A segment in use. Its file is recycled only when the last holder lets go, so that a
/// read under way never sees another life of it.
pub(crate) struct Segment {
    pub(crate) number: SegmentNo,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    reader: Option<Arc<Reader>>,
    extent: Closed,
    sealed: bool,
    /// Set once the segment is released: whom to tell when nobody reads it any more.
    released: Option<UnboundedSender<Errand>>,
}

impl Segment {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is filled, and whether it is sealed.
    pub(crate) fn extent(&self) -> (Closed, bool) {
        let state = self.state();
        (state.extent, state.sealed)
    }

    pub(crate) fn set_extent(&self, extent: Closed, sealed: bool) {
        let mut state = self.state();
        state.extent = extent;
        state.sealed = sealed;
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(tell) = state.released.take() {
            // The keeper may be gone: then the next boot tidies up.
            let _ = tell.send(Errand::Recycle(std::mem::take(&mut self.path)));
        }
    }
}

/// All live segments of a journal.
pub(crate) struct Table {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) store: Uuid,
    pub(crate) cipher: Arc<dyn SegmentCipher>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    segments: BTreeMap<SegmentNo, Arc<Segment>>,
    /// Segments whose files are open, in the order of opening.
    open: VecDeque<SegmentNo>,
}

impl Table {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, store: Uuid, cipher: Arc<dyn SegmentCipher>) -> Table {
        Table { disk, dir: dir.to_owned(), store, cipher, inner: Mutex::default() }
    }

    /// Where the file of segment `number` lies.
    pub(crate) fn path(&self, number: SegmentNo) -> PathBuf {
        self.dir.join(segment_name(number))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, extent: Closed, sealed: bool, reader: Option<Arc<Reader>>) -> Arc<Segment> {
        let segment = Arc::new(Segment {
            number: extent.number,
            path: self.path(extent.number),
            state: Mutex::new(State { reader, extent, sealed, released: None }),
        });
        self.inner().segments.insert(extent.number, segment.clone());
        segment
    }

    pub(crate) fn get(&self, number: SegmentNo) -> Option<Arc<Segment>> {
        self.inner().segments.get(&number).cloned()
    }

    pub(crate) fn newest(&self) -> SegmentNo {
        self.inner().segments.keys().next_back().copied().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.inner().segments.values().cloned().collect()
    }

    /// Forgets a segment that no base names any more, without telling anyone.
    pub(crate) fn forget(&self, number: SegmentNo) {
        drop(self.inner().segments.remove(&number));
    }

    /// Forgets a released segment; its file is recycled once nobody reads it.
    pub(crate) fn release(&self, number: SegmentNo, keeper: &UnboundedSender<Errand>) {
        let segment = self.inner().segments.remove(&number);
        if let Some(segment) = segment {
            segment.state().released = Some(keeper.clone());
        }
    }

    /// The open file of a segment, opened and its header verified if need be.
    pub(crate) async fn reader(&self, segment: &Arc<Segment>) -> Result<Arc<Reader>, Error> {
        if let Some(reader) = segment.state().reader.clone() {
            return Ok(reader);
        }
        let reader = Arc::new(self.open(segment.number).await?);
        segment.state().reader = Some(reader.clone());
        let victim = {
            let mut inner = self.inner();
            inner.open.push_back(segment.number);
            let victim = if inner.open.len() > OPEN_FILES_MAX { inner.open.pop_front() } else { None };
            victim.and_then(|number| inner.segments.get(&number).cloned())
        };
        if let Some(victim) = victim
            && victim.number != segment.number
        {
            victim.state().reader = None;
        }
        Ok(reader)
    }

    /// Opens the file of segment `number` and verifies its header.
    pub(crate) async fn open(&self, number: SegmentNo) -> Result<Reader, Error> {
        let path = self.path(number);
        let file = match self.disk.open(&path, Open::Read).await {
            Ok(file) => file,
            // A file is renamed or removed only after its release is durable: a hole is damage (J5).
            Err(e) if e.is_not_found() => {
                return Err(Error::damaged(number, 0, "the segment's file is missing"));
            }
            Err(e) => return Err(e.into()),
        };
        let header = self.header(number, &*file).await?;
        Ok(Reader { life: header.life(), cipher: self.cipher.segment(&header.salt), file })
    }

    /// Reads and verifies the header of segment `number`.
    pub(crate) async fn header(&self, number: SegmentNo, file: &dyn File) -> Result<SegmentHeader, Error> {
        let block = usize::try_from(HEADER_BYTES).expect("4096 fits");
        let bytes = file.read_at(0, block).await?;
        let header = SegmentHeader::decode(&bytes).map_err(|why| Error::damaged(number, 0, why))?;
        if header.store != self.store {
            let why = format!("it belongs to store {}, this is store {}", header.store, self.store);
            return Err(Error::damaged(number, 0, why));
        }
        if header.number != number {
            let why = format!("its header says it is segment {}", header.number);
            return Err(Error::damaged(number, 0, why));
        }
        Ok(header)
    }
}
