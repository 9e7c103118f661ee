//! One record by its place: read, verified, opened; and all of a segment, verified.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::journal::RawBodies;
use crate::record::{HEADER, Header, Place, SegmentNo, aad, crc32c};
use crate::scan::{Step, Walk};
use crate::segment::HEADER_BYTES;
use crate::table::{Reader, Segment, Table};
use crate::watermark::Watermark;

impl Table {
    async fn at(&self, place: Place) -> Result<(Arc<Segment>, Arc<Reader>), Error> {
        let segment = self.get(place.segment).ok_or(Error::Released { segment: place.segment })?;
        let reader = self.reader(&segment).await?;
        Ok((segment, reader))
    }

    /// Tag and whole body of the record at `place`.
    pub(crate) async fn read(&self, place: Place) -> Result<(Bytes, Bytes), Error> {
        // `segment` is held to the end: its file is not recycled under this read.
        let (segment, reader) = self.at(place).await?;
        let n = HEADER + usize::from(place.tag_len) + usize::try_from(place.body_len).unwrap_or(usize::MAX);
        let record = reader.file.read_at(place.offset, n).await?;
        drop(segment);
        let damaged = |why: &str| Error::damaged(place.segment, place.offset, why);
        let header = Header::decode(&record).ok_or_else(|| damaged("no valid record header"))?;
        if header.life != reader.life || header.place(place.segment, place.offset) != place {
            return Err(damaged("another record lies at this place"));
        }
        let (tag, body) = (record.slice(HEADER..header.body_at()), record.slice(header.body_at()..));
        if record.len() < n || crc32c([&body[..]]) != header.body_crc {
            return Err(damaged(UNSOUND));
        }
        let body = opened(&reader, &header, &tag, body).ok_or_else(|| damaged(UNAUTHENTIC))?;
        Ok((tag, body))
    }

    /// Some bytes of a raw body, unverified.
    pub(crate) async fn read_range(&self, place: Place, offset: u32, len: u32) -> Result<Bytes, Error> {
        if offset.checked_add(len).is_none_or(|end| end > place.body_len) {
            return Err(Error::refused(format!(
                "to read {len} bytes at {offset} of a body of {} bytes",
                place.body_len
            )));
        }
        let (segment, reader) = self.at(place).await?;
        let n = usize::try_from(len).unwrap_or(usize::MAX);
        let at = place.offset + HEADER as u64 + u64::from(place.tag_len) + u64::from(offset);
        let bytes = reader.file.read_at(at, n).await?;
        drop(segment);
        if bytes.len() < n {
            return Err(Error::damaged(place.segment, at, "the segment's file is cut short"));
        }
        Ok(bytes)
    }

    /// Holds the header of segment `number`, and every record before `end`, against their checksums. Returns how
    /// many bytes were read.
    pub(crate) async fn verify(&self, number: SegmentNo, end: u64, raw: RawBodies) -> Result<u64, Error> {
        // Opened anew: the header may have rotted since it was read.
        let reader = self.open(number).await?;
        let mut walk = Walk::new(reader.file.clone(), reader.life, HEADER_BYTES, 0, end);
        let mut read = end;
        loop {
            match walk.next().await? {
                Step::End => return Ok(read),
                Step::Bad(why) => return Err(Error::damaged(number, walk.at(), why)),
                Step::Record(found) if raw == RawBodies::PassOver && !found.header.is_sealed() => {
                    read = read.saturating_sub(u64::from(found.header.body_len));
                }
                Step::Record(found) => {
                    if walk.body(&found).await?.is_none() {
                        return Err(Error::damaged(number, found.offset, UNSOUND));
                    }
                }
            }
        }
    }

    /// Holds the watermark beside the segments against its checksum.
    pub(crate) async fn verify_watermark(&self) -> Result<(), Error> {
        Watermark::load(&*self.disk, &self.dir, self.store, &*self.cipher).await.map(drop)
    }
}

const UNSOUND: &str = "the record's body fails its checksum";

pub(crate) const UNAUTHENTIC: &str = "the record's body fails authentication";

/// The plain body of a record; `None` if it fails authentication.
pub(crate) fn opened(reader: &Reader, header: &Header, tag: &[u8], body: Bytes) -> Option<Bytes> {
    if header.is_sealed() {
        reader.cipher.open(header.number, &aad(header.kind, header.flags, tag), body).ok()
    } else {
        Some(body)
    }
}
