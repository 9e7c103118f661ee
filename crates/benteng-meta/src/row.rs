//! What the tables hold. Each row type is versioned ([`crate::codec`]); its key is in [`crate::key`].

mod identity; // users, access keys, roles
mod object; // buckets, objects, blobs, parts, uploads, the dead
mod site; // the site, its nodes, keys, gateways, floors, placement

pub use identity::*;
pub use object::*;
pub use site::*;
