//! What can be asked for, and on what.

use std::fmt;

/// Something that a caller wants to do. New actions come with policies; every door names one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// S3: list buckets ([`Resource::Site`]); see one in that list ([`Resource::Bucket`]).
    ListBuckets,
    /// S3: create a bucket ([`Resource::Site`], or [`Resource::Bucket`] owned by the caller).
    CreateBucket,
    /// S3: delete a bucket.
    DeleteBucket,
    /// S3: ask whether a bucket exists, and where it lies.
    HeadBucket,
    /// S3: list objects of a bucket.
    ListObjects,
    /// S3: read an object and what is said about it.
    GetObject,
    /// S3: write an object, or parts of one.
    PutObject,
    /// S3: delete an object.
    DeleteObject,
    /// S3: list uploads under way in a bucket, and the parts of one.
    ListUploads,
    /// S3: abort an upload.
    AbortUpload,
    /// SQL: open a session and run queries ([`Resource::Site`]); what a query reads is asked for one by one.
    RunSql,
    /// SQL: read `system.*` tables ([`Resource::Site`]); see a row about a bucket or object there.
    ReadSystemTables,
    /// Site status, list of nodes, metrics.
    ReadStatus,
    /// Add, drain and remove nodes.
    ManageNodes,
    /// Create, change and delete users.
    ManageUsers,
    /// Create, list and delete access keys of a user.
    ManageKeys,
}

impl Action {
    /// All actions, in the order of the table in `docs/roles.md`.
    pub const ALL: [Action; 16] = [
        Action::ListBuckets,
        Action::CreateBucket,
        Action::DeleteBucket,
        Action::HeadBucket,
        Action::ListObjects,
        Action::GetObject,
        Action::PutObject,
        Action::DeleteObject,
        Action::ListUploads,
        Action::AbortUpload,
        Action::RunSql,
        Action::ReadSystemTables,
        Action::ReadStatus,
        Action::ManageNodes,
        Action::ManageUsers,
        Action::ManageKeys,
    ];

    /// The name in the docs, in denials and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Action::ListBuckets => "ListBuckets",
            Action::CreateBucket => "CreateBucket",
            Action::DeleteBucket => "DeleteBucket",
            Action::HeadBucket => "HeadBucket",
            Action::ListObjects => "ListObjects",
            Action::GetObject => "GetObject",
            Action::PutObject => "PutObject",
            Action::DeleteObject => "DeleteObject",
            Action::ListUploads => "ListUploads",
            Action::AbortUpload => "AbortUpload",
            Action::RunSql => "RunSql",
            Action::ReadSystemTables => "ReadSystemTables",
            Action::ReadStatus => "ReadStatus",
            Action::ManageNodes => "ManageNodes",
            Action::ManageUsers => "ManageUsers",
            Action::ManageKeys => "ManageKeys",
        }
    }

    /// Whether the action can be asked for on this kind of resource at all. A door that asks
    /// for `GetObject` on the site has a bug; it is denied, whoever asks.
    pub fn fits(self, on: Resource<'_>) -> bool {
        match self {
            Action::ListBuckets | Action::CreateBucket => {
                matches!(on, Resource::Site | Resource::Bucket { .. })
            }
            Action::DeleteBucket | Action::HeadBucket | Action::ListObjects => {
                matches!(on, Resource::Bucket { .. })
            }
            Action::GetObject
            | Action::PutObject
            | Action::DeleteObject
            | Action::ListUploads
            | Action::AbortUpload => matches!(on, Resource::Bucket { .. } | Resource::Object { .. }),
            Action::RunSql | Action::ReadSystemTables => true,
            Action::ReadStatus | Action::ManageNodes => matches!(on, Resource::Site),
            Action::ManageUsers | Action::ManageKeys => matches!(on, Resource::Site | Resource::User(_)),
        }
    }

    /// Whether "own" suffices for the action on the whole site, because its answer then shows
    /// (or its effect then touches) only what is the caller's.
    pub(crate) fn is_scoped_on_site(self) -> bool {
        matches!(self, Action::ListBuckets | Action::CreateBucket | Action::RunSql | Action::ReadSystemTables)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an action touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The site as a whole.
    Site,
    /// A bucket.
    Bucket {
        /// Its name.
        name: &'a str,
        /// The user that owns it.
        owner: &'a str,
    },
    /// An object, there or not.
    Object {
        /// Its bucket.
        bucket: &'a str,
        /// The user that owns the bucket.
        owner: &'a str,
        /// Its key.
        key: &'a str,
    },
    /// A user.
    User(&'a str),
}

impl<'a> Resource<'a> {
    /// The user whose it is.
    pub(crate) fn owner(self) -> Option<&'a str> {
        match self {
            Resource::Site => None,
            Resource::Bucket { owner, .. } | Resource::Object { owner, .. } => Some(owner),
            Resource::User(name) => Some(name),
        }
    }
}

impl fmt::Display for Resource<'_> {
    /// Objects are shown by their bucket alone: denials are logged, and logs hold no keys (I5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Site => f.write_str("the site"),
            Resource::Bucket { name, .. } => write!(f, "bucket {name:?}"),
            Resource::Object { bucket, .. } => write!(f, "an object in bucket {bucket:?}"),
            Resource::User(name) => write!(f, "user {name:?}"),
        }
    }
}
