// SPDX-License-Identifier: GPL-2.0

//! The Linux md personality for RAID levels 4, 5 and 6.

use kernel::prelude::*;

mod array;
mod bindings;
mod block;
mod log;
mod md;
mod mem;
mod offload;
mod parity;
mod raid;
mod ratelimit;
mod sync;

module! {
    type: md::personality::Driver<array::Array>,
    name: "raid456",
    description: "RAID4/5/6 personality for md, in Rust",
    license: "GPL",
    alias: [
        "md-personality-4",
        "md-raid5",
        "md-raid4",
        "md-level-5",
        "md-level-4",
        "md-personality-8",
        "md-raid6",
        "md-level-6",
        "raid5",
        "raid6",
    ],
}
