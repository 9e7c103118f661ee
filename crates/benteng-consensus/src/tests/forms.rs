//! The forms of what is stored and sent, held to golden files.

use benteng_host::golden::hold;
use benteng_meta::codec;
use benteng_meta::ids::GroupId;

use crate::log::fuzz::kept as log;
use crate::state::{self, AppliedRow};
use crate::wire::{WireLogId, samples};

#[test]
fn messages_are_written_as_ever_and_every_kept_one_is_read() {
    hold("message", 1, &samples::messages(), &|name, bytes| samples::again(name, bytes));
}

#[test]
fn log_records_are_written_as_ever_and_every_kept_one_is_read() {
    hold("log_record", 1, &log::records(), &|_, bytes| log::again(bytes));
}

#[test]
fn own_rows_and_keys_are_written_as_ever() {
    let applied = AppliedRow {
        installation: 3,
        last: Some(WireLogId { term: 299, index: 900 }),
        membership: samples::stored_membership(),
        switched: true,
    };
    hold("applied", 1, &[("applied".into(), codec::encode(&applied).to_vec())], &|_, bytes| {
        let read = codec::decode::<AppliedRow>(bytes).map_err(|e| e.to_string())?;
        Ok(codec::encode(&read).to_vec())
    });
    let (group, installation) = (GroupId(0x0102), 0x0304);
    let keys = [
        ("rows", state::rows_prefix(group, installation).to_vec()),
        ("applied", state::own_key(group, "applied").to_vec()),
        ("salt", state::salt_key(0x0506).to_vec()),
    ];
    let keys: Vec<_> = keys.into_iter().map(|(name, key)| (name.to_owned(), key)).collect();
    hold("own_key", 1, &keys, &|_, bytes| Ok(bytes.to_vec()));
}
