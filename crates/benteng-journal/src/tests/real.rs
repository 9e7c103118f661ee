//! The same journal on the machine's own disk: what the test machine assumes, holds there.

use super::{STORE, append, small, tags};
use crate::{Journal, NoCipher, Release};

#[tokio::test]
async fn the_real_disk_keeps_recycles_and_replays() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let host = benteng_host::real::host();
    for boot in 0..3 {
        let mut seen = Vec::new();
        let mut visit = |record| {
            seen.push(record);
            Ok(())
        };
        let dir = folder.path().join("journal");
        let cipher = std::sync::Arc::new(NoCipher);
        let opened = Journal::open(host.clone(), dir, STORE, small(), cipher, &mut visit).await;
        let (journal, opened) = opened.expect("opens");
        assert_eq!(opened.fresh, boot == 0);
        let expected = if boot == 0 { None } else { Some(format!("{} 299", boot - 1)) };
        assert_eq!(tags(&seen).last().cloned(), expected);
        for n in 0..300 {
            append(&journal, &format!("{boot} {n}")).await;
        }
        let newest = journal.newest();
        journal.release(Release::Before(newest)).await.expect("releases");
        assert_eq!(journal.segments().len(), 1);
        // Once cleanly, then like a crash of the process.
        if boot == 0 {
            journal.close().await.expect("closes");
        }
    }
}
