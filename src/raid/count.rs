// SPDX-License-Identifier: GPL-2.0

//! What a span counts of its own work, for those who want to know how an array is used.

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// A part, some strip of which joined others that gather writes, or that are still being read.
    PartsJoined,
    /// A part, some strip of which had to wait for others to end their work there.
    PartsWaited,
    /// A strip of which writes changed all data.
    StripsFull,
    /// A strip that was written by read-modify-write.
    StripsRmw,
    /// A strip that was written by reconstruct-write, and not whole.
    StripsRcw,
    /// A strip that was written without parity, which no member could hold.
    StripsDataOnly,
    /// A block that a request needed and that was in memory.
    CacheHits,
    /// A block that a request needed and that had to be read.
    CacheMisses,
}
