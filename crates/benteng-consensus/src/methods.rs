//! Numbers of the RPC methods of this crate: 1 to 99. Never reused.

pub(crate) const APPEND: u16 = 1;
pub(crate) const APPEND_STREAM: u16 = 2;
pub(crate) const VOTE: u16 = 3;
pub(crate) const PRE_VOTE: u16 = 4;
pub(crate) const TRANSFER_LEADER: u16 = 5;
pub(crate) const INSTALL_SNAPSHOT: u16 = 6;
pub(crate) const PULL_SNAPSHOT: u16 = 7;
pub(crate) const PROPOSE: u16 = 8;
pub(crate) const READ_INDEX: u16 = 9;
pub(crate) const CLOCK: u16 = 10;

/// Refusal codes of this crate.
pub(crate) mod code {
    /// The request cannot be decoded.
    pub(crate) const MALFORMED: u16 = 1;
    /// The group does not run here, or stops.
    pub(crate) const STOPPED: u16 = 2;
    /// The caller's recovery epoch is another (S7).
    pub(crate) const WRONG_EPOCH: u16 = 3;
    /// The snapshot session is gone; begin again.
    pub(crate) const NO_SESSION: u16 = 4;
    /// The method is unknown.
    pub(crate) const UNKNOWN_METHOD: u16 = 5;
}
