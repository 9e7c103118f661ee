//! Tests of the RocksDB store.
