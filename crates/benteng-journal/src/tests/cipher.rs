//! A cipher for tests: weak, authentic, and it panics where two plaintexts meet one nonce (K1).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::record::crc32c;
use crate::{RecordCipher, SegmentCipher, Unauthentic};

type Sealed = BTreeMap<([u8; 32], u64), (Vec<u8>, Vec<u8>)>;

#[derive(Default)]
pub(crate) struct TestCipher {
    sealed: Arc<Mutex<Sealed>>,
}

struct OfSegment {
    salt: [u8; 32],
    sealed: Arc<Mutex<Sealed>>,
}

impl SegmentCipher for TestCipher {
    fn segment(&self, salt: &[u8; 32]) -> Arc<dyn RecordCipher> {
        Arc::new(OfSegment { salt: *salt, sealed: self.sealed.clone() })
    }
}

impl OfSegment {
    fn mix(&self, record: u64, bytes: &[u8]) -> Vec<u8> {
        let key = self.salt.iter().cycle();
        bytes.iter().zip(key).map(|(byte, key)| byte ^ key ^ (record as u8)).collect()
    }

    fn mac(&self, record: u64, aad: &[u8], plain: &[u8]) -> [u8; 8] {
        let half = |n: u8| crc32c([&[n][..], &self.salt, &record.to_le_bytes(), aad, plain]).to_le_bytes();
        let mut mac = [0; 8];
        mac[..4].copy_from_slice(&half(1));
        mac[4..].copy_from_slice(&half(2));
        mac
    }
}

impl RecordCipher for OfSegment {
    fn seal(&self, record: u64, aad: &[u8], plain: &[u8]) -> Bytes {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (aad.to_vec(), plain.to_vec());
        let before = sealed.insert((self.salt, record), now.clone());
        assert!(before.is_none_or(|before| before == now), "K1: two plaintexts under one nonce");
        let mut out = self.mix(record, plain);
        out.extend(self.mac(record, aad, plain));
        out.into()
    }

    fn open(&self, record: u64, aad: &[u8], sealed: Bytes) -> Result<Bytes, Unauthentic> {
        let (mixed, mac) = sealed.split_last_chunk::<8>().ok_or(Unauthentic)?;
        let plain = self.mix(record, mixed);
        if *mac == self.mac(record, aad, &plain) { Ok(plain.into()) } else { Err(Unauthentic) }
    }

    fn overhead(&self) -> usize {
        8
    }
}
