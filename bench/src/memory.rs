// SPDX-License-Identifier: GPL-2.0

//! Memory to work on: in huge pages, as the kernel's own mapping of it is, and dealt out in random order, as pages are.

use crate::parity::Line;
use std::alloc::{alloc, dealloc, Layout};

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// Bytes of a line.
pub(crate) const LINE: usize = size_of::<Line>();

/// A large piece of memory.
pub(crate) struct Memory {
    start: *mut Line,
    lines: usize,
    layout: Layout,
}

impl Memory {
    /// `bytes` of memory, filled with words that are all different.
    pub(crate) fn new(bytes: usize) -> Self {
        let layout =
            Layout::from_size_align(bytes.next_multiple_of(HUGE), HUGE).expect("a size that fits");
        assert!(layout.size() > 0);
        // SAFETY: The layout's size is not zero.
        let start = unsafe { alloc(layout) }.cast::<Line>();
        assert!(!start.is_null(), "no {bytes} bytes of memory");
        // Before anything is stored there: later is too late.
        // SAFETY: The range is the allocation of the line above. The call changes how it is mapped, not what is in it.
        unsafe { madvise(start.cast(), layout.size(), MADV_HUGEPAGE) };
        // SAFETY: The allocation has so many bytes.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, layout.size()) };
        let mut memory = Self {
            start,
            lines: layout.size() / LINE,
            layout,
        };
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for word in memory.all().iter_mut().flat_map(|line| line.0.iter_mut()) {
            *word = random.next();
        }
        memory
    }

    /// All of it.
    pub(crate) fn all(&mut self) -> &mut [Line] {
        // SAFETY: The allocation has this many lines, all of them initialised (zeroed), aligned, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.lines) }
    }

    /// Blocks of `bytes` in random order; as many as there are in the first `limit` bytes.
    pub(crate) fn blocks(&mut self, bytes: usize, limit: usize) -> Vec<&mut [Line]> {
        let limit = (limit / LINE).min(self.lines);
        let mut blocks: Vec<_> = self.all()[..limit].chunks_exact_mut(bytes / LINE).collect();
        let mut random = Random(1);
        for last in (1..blocks.len()).rev() {
            blocks.swap(last, (random.next() % (last as u64 + 1)) as usize);
        }
        blocks
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: The allocation was made with this layout, and nothing borrows from it any more.
        unsafe { dealloc(self.start.cast(), self.layout) };
    }
}

/// xorshift64*: the same numbers in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Bytes of this CPU's cache of a level, data or unified; nothing if the system does not say.
pub(crate) fn cache_bytes(level: u32) -> Option<usize> {
    (0..8).find_map(|index| {
        let read = |name: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
            std::fs::read_to_string(path).ok()
        };
        let fits =
            read("level")?.trim().parse() == Ok(level) && read("type")?.trim() != "Instruction";
        let size = read("size").filter(|_| fits)?;
        Some(size.trim().strip_suffix('K')?.parse::<usize>().ok()? << 10)
    })
}

/// MiB of this process that lie in huge pages.
pub(crate) fn huge_mib() -> Option<usize> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup
        .lines()
        .find(|line| line.starts_with("AnonHugePages:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? >> 10)
}

/// Keeps this thread on the CPU it is on, so that its caches stay its own.
pub(crate) fn stay_on_this_cpu() {
    // SAFETY: The call has no arguments and no conditions.
    let cpu = unsafe { sched_getcpu() };
    let mut mask = [0_u64; 16];
    let Ok(cpu) = usize::try_from(cpu) else {
        return;
    };
    if let Some(word) = mask.get_mut(cpu / 64) {
        *word |= 1 << (cpu % 64);
    }
    // SAFETY: The mask is as long as the call is told.
    unsafe { sched_setaffinity(0, size_of_val(&mask), mask.as_ptr()) };
}

const MADV_HUGEPAGE: i32 = 14;

extern "C" {
    fn madvise(start: *mut u8, bytes: usize, advice: i32) -> i32;
    fn sched_getcpu() -> i32;
    fn sched_setaffinity(pid: i32, bytes: usize, mask: *const u64) -> i32;
}
