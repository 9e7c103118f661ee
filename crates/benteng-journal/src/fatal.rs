//! Failures after which nobody knows what the disk holds (J6). A failed fsync drops dirty
//! pages and is reported once; the next one succeeds over lost data. So: no retry, the
//! process ends, and the next boot trusts only what was claimed (J4).

use std::path::Path;

use benteng_host::Host;

/// The value, or the end of the process.
pub(crate) async fn must<T>(host: &Host, result: benteng_host::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            let why = format!(
                "J6: {error}; the journal's disk failed, nothing is retried; check the device, then restart"
            );
            match host.fate.abort(&why).await {}
        }
    }
}

/// Makes the names in `dir` durable, or ends the process.
pub(crate) async fn sync_dir(host: &Host, dir: &Path) {
    must(host, host.disk.sync_dir(dir).await).await;
}
