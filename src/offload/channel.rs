// SPDX-License-Identifier: GPL-2.0

//! Channels of DMA engines, and the operations that they do.
//!
//! dmaengine shows public channels to whoever has said that it is interested ([`Engines`]), a channel for each kind of
//! operation on each CPU. An operation keeps the pages that it works on until it has ended, and nobody sees or changes one
//! that is written to meanwhile ([`Page`]).
//!
//! Locks: that of the channels that are asked on, taken alone, in task context with interrupts on.

use super::course::{Asked, Kind, Limits, Sums};
use super::stage::{self, Owner, Stage};
use crate::bindings;
use crate::mem::pages::{Page, PAGE_SIZE};
use crate::mem::Ask;
use crate::parity::gf::Element;
use crate::parity::Source;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kernel::prelude::*;
use kernel::sync::{global_lock, Arc};

impl Kind {
    /// As the shim calls it.
    fn to_raw(self) -> bindings::raid456_dma_kind {
        match self {
            Self::Copy => bindings::raid456_dma_kind_RAID456_DMA_COPY,
            Self::Xor => bindings::raid456_dma_kind_RAID456_DMA_XOR,
            Self::Pq => bindings::raid456_dma_kind_RAID456_DMA_PQ,
            Self::XorCheck => bindings::raid456_dma_kind_RAID456_DMA_XOR_VAL,
            Self::PqCheck => bindings::raid456_dma_kind_RAID456_DMA_PQ_VAL,
        }
    }
}

/// Whether this kernel has dmaengine.
pub(crate) fn is_supported() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid456_dma_supported() }
}

/// Whether memory of a request can be kept while an engine reads it: not that of a slab.
pub(crate) fn may_keep(source: Source<'_>) -> bool {
    // SAFETY: There is something that can be read, so the address is that of a page.
    unsafe { bindings::raid456_dma_may_keep(source.as_ptr().cast()) }
}

/// What the module's parameter says of where jobs are done, as text.
///
/// # Errors
///
/// `EINVAL`: it is no text.
pub(crate) fn default_mode(room: &mut [u8; 8]) -> Result<&str> {
    // SAFETY: The room is as large as said.
    unsafe { bindings::raid456_offload_default(room.as_mut_ptr().cast(), room.len()) };
    let text = CStr::from_bytes_until_nul(room).map_err(|_| EINVAL)?;
    let text = text.to_str().map_err(|_| EINVAL)?;
    Ok(text.strip_suffix('\n').unwrap_or(text))
}

/// How many interests are kept although nobody has them.
static KEPT: AtomicU32 = AtomicU32::new(0);

/// The interest in channels: while it lives those that are found may be used.
pub(crate) struct Engines(());

impl Engines {
    /// Tells dmaengine. Sleeps.
    pub(crate) fn get() -> Self {
        // SAFETY: The function has no requirements but a context that may sleep.
        unsafe { bindings::raid456_dma_get() };
        Self(())
    }

    /// The channel for operations of a kind, on this CPU; `None` if no engine has any.
    pub(crate) fn find(&self, kind: Kind) -> Option<Channel<'_>> {
        // SAFETY: The function has no requirements.
        let chan = unsafe { bindings::raid456_dma_find(kind.to_raw()) };
        // INVARIANT: channels that are found may be used as long as the interest is kept.
        NonNull::new(chan).map(|chan| Channel {
            chan,
            _engines: PhantomData,
        })
    }
}

impl Drop for Engines {
    /// Sleeps. While operations that were abandoned have not ended, the interest is kept:
    /// see [`give_up_kept`].
    fn drop(&mut self) {
        if stage::abandoned() != 0 {
            KEPT.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // SAFETY: It was told when this value was made, and no channel that was found is used any more.
        unsafe { bindings::raid456_dma_put() }
    }
}

/// Gives up all interest that was kept, unless there still is a reason. Sleeps.
pub(crate) fn give_up_kept() {
    if stage::abandoned() != 0 {
        return;
    }
    for _ in 0..KEPT.swap(0, Ordering::Relaxed) {
        drop(Engines(()));
    }
}

/// How many channels are asked on at most.
const ASKED: usize = 16;

global_lock! {
    // SAFETY: `load` initialises it, once, and then says so; before that nobody looks: see `asked_on`.
    unsafe(uninit) static ASKED_ON: SpinLock<[Option<Kept>; ASKED]> = [const { None }; ASKED];
}

/// Somebody has called [`load`].
static LOADING: AtomicBool = AtomicBool::new(false);

/// The lock is there.
static LOADED: AtomicBool = AtomicBool::new(false);

/// The module is being loaded.
pub(crate) fn load() {
    if !LOADING.swap(true, Ordering::Relaxed) {
        // SAFETY: Only the first caller gets here, and nobody uses the lock before he says so.
        unsafe { ASKED_ON.init() };
        LOADED.store(true, Ordering::Release);
    }
}

/// Shows the channels that are asked on to `look`, with the lock held. None without [`load`].
fn asked_on<R>(look: impl FnOnce(&mut [Option<Kept>; ASKED]) -> R) -> Option<R> {
    // Acquire: what `load` did is seen.
    let is_there = LOADED.load(Ordering::Acquire);
    is_there.then(|| look(&mut ASKED_ON.lock()))
}

/// The module is going: nothing that was abandoned is under way. Sleeps.
pub(crate) fn unload() {
    // SAFETY: The function has no requirements but a context that may sleep.
    unsafe { bindings::raid456_dma_ask_no_more() };
    // Dropped without the lock.
    drop(asked_on(core::mem::take));
    give_up_kept();
}

/// Has a channel [asked](Channel::look) each second from now on, until nothing that was abandoned is under way: what it has not
/// been asked to tell of would be heard of by nobody. Task context with interrupts on; not for who has the engines last.
pub(super) fn ask_on(channel: Kept) {
    let id = channel.get().id();
    let is_it = |place: &&mut Option<Kept>| place.as_ref().is_none_or(|it| it.get().id() == id);
    let mut channel = Some(channel);
    asked_on(|asked| {
        // Not instead of one, which may be the last that has its engines.
        if let Some(place @ None) = asked.iter_mut().find(is_it) {
            *place = channel.take();
        }
    });
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid456_dma_ask_later() }
}

/// Asks those channels. Sleeps.
#[no_mangle]
extern "C" fn raid456_rs_ask() {
    let asked = asked_on(core::mem::take).unwrap_or_default();
    for channel in asked.iter().flatten() {
        channel.get().look();
    }
    if stage::abandoned() != 0 {
        asked.into_iter().flatten().for_each(ask_on);
    }
}

/// A channel.
///
/// # Invariants
///
/// It may be used for as long as `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Channel<'a> {
    chan: NonNull<bindings::dma_chan>,
    _engines: PhantomData<&'a Engines>,
}

/// A channel that is kept, to be used more than once: which one there is for an operation may be another one each time.
///
/// # Invariants
///
/// The channel was found by `engines`.
#[derive(Clone)]
pub(crate) struct Kept {
    engines: Arc<Engines>,
    chan: NonNull<bindings::dma_chan>,
}

// SAFETY: A channel may be used by any task.
unsafe impl Send for Kept {}

// SAFETY: As above.
unsafe impl Sync for Kept {}

impl Kept {
    /// Keeps the channel that `find` finds.
    pub(crate) fn new(
        engines: &Arc<Engines>,
        find: impl FnOnce(&Engines) -> Option<Channel<'_>>,
    ) -> Option<Self> {
        let chan = find(engines)?.chan;
        // INVARIANT: just found by these: a channel is as long-lived as the engines that it was found by.
        Some(Self {
            engines: engines.clone(),
            chan,
        })
    }

    /// The channel.
    pub(crate) fn get(&self) -> Channel<'_> {
        let _engines: &Engines = &self.engines;
        // INVARIANT: channels that are found may be used as long as the interest is kept, which we do.
        Channel {
            chan: self.chan,
            _engines: PhantomData,
        }
    }
}

impl Channel<'_> {
    /// What tells it from others.
    pub(crate) fn id(&self) -> usize {
        self.chan.as_ptr() as usize
    }

    /// Whether operations may begin at such bytes of pages, and be as long.
    pub(crate) fn is_aligned(&self, kind: Kind, from: usize, to: usize, len: usize) -> bool {
        let chan = self.chan.as_ptr();
        // SAFETY: By the invariant the channel is valid.
        unsafe { bindings::raid456_dma_is_aligned(chan, kind.to_raw(), from, to, len) }
    }

    /// Whether it can be asked to tell of many ends at once.
    pub(super) fn tells(&self) -> bool {
        // SAFETY: By the invariant the channel is valid.
        unsafe { bindings::raid456_dma_tells(self.chan.as_ptr()) }
    }

    /// Has it tell of all ends, when it gets here. Returns false, and does nothing, if the channel does not take that, or never
    /// [tells](Self::tells). Context as for [`Self::submit`].
    pub(super) fn tell(&self) -> bool {
        // SAFETY: By the invariant the channel is valid.
        unsafe { bindings::raid456_dma_tell(self.chan.as_ptr()) }
    }

    /// Has its driver look what has ended, where no interrupt would have it do so. Context as for [`Self::submit`]; what has
    /// ended may be told before this returns.
    pub(super) fn look(&self) {
        // SAFETY: By the invariant the channel is valid.
        unsafe { bindings::raid456_dma_look(self.chan.as_ptr()) }
    }

    /// Has what was submitted begin.
    pub(crate) fn issue(&self) {
        // SAFETY: By the invariant the channel is valid.
        unsafe { bindings::raid456_dma_issue(self.chan.as_ptr()) }
    }

    /// Submits an operation, as a part of a stage that has not been closed. Its end is told at once, or `quiet`, when the
    /// channel is to [tell](Self::tell) next. Returns false, and does nothing, if the channel does not take it, there is no
    /// memory to ask it, or it is nothing that a channel may be [asked for](Asked::is_sound). Task context with interrupts on;
    /// does not sleep.
    #[must_use = "what was not taken is not done"]
    pub(crate) fn submit<O: Owner>(
        &self,
        kind: Kind,
        inputs: &Inputs<'_, '_>,
        to: Targets<'_>,
        stage: &Arc<Stage<O>>,
        quiet: bool,
    ) -> bool {
        let lists = &inputs.lists;
        // CAST: there are no more blocks than twice as many as members, and a page's bytes.
        let (count, len, at) = (lists.from.len() as u32, to.len as u32, to.at as u32);
        let reach = to.at.checked_add(to.len);
        if reach.is_none_or(|reach| reach > PAGE_SIZE) || to.len > inputs.len {
            return false;
        }
        let asked = Asked {
            kind,
            sums: Sums {
                p: to.p.is_some(),
                q: to.q.is_some(),
                more: to.more,
            },
            changes: to.changes,
            sources: lists.from.len(),
        };
        // All of them begin at a multiple of what the channel asks for if the bits of all together are one.
        let bits = lists.from.iter().fold(0, |bits, from| bits | from);
        if !asked.is_sound(self) || !self.is_aligned(kind, bits % PAGE_SIZE, to.at, to.len) {
            return false;
        }
        let address = |page: Option<NonNull<u8>>| {
            page.map_or(core::ptr::null_mut(), |page| page.as_ptr().cast())
        };
        stage.begin(self.id());
        let op = bindings::raid456_dma_op {
            chan: self.chan.as_ptr(),
            kind: kind.to_raw(),
            more: to.more,
            quiet,
            len,
            count,
            from: lists.from.as_ptr().cast(),
            factors: lists.factors.as_ptr(),
            to: [address(to.p), address(to.q)],
            at,
            ended: Some(ended::<O>),
            owner: Arc::into_raw(stage.clone()).cast_mut().cast(),
        };
        // SAFETY: By the invariant the channel is valid. The lists have `count` elements: pages and factors that are
        // borrowed, each as long as `len` from its address on; the targets are pages, with `len` bytes from `at` on, and were
        // borrowed to be changed if the operation does that. It is of a kind that the channel does, with a target for each sum
        // that is made, no more blocks than it takes, and in places that it takes. The owner is a reference to a stage, for one
        // call of a function that takes one.
        let taken = unsafe { bindings::raid456_dma_submit(&op) };
        if taken == bindings::raid456_dma_taken_RAID456_DMA_TAKEN {
            return true;
        }
        // SAFETY: It was not taken, so the reference is still ours.
        drop(unsafe { Arc::<Stage<O>>::from_raw(op.owner.cast()) });
        let asked = taken == bindings::raid456_dma_taken_RAID456_DMA_REFUSED;
        stage.unbegin(self.id(), asked);
        false
    }
}

/// The name that it has in sysfs.
impl fmt::Display for Channel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chan = self.chan.as_ptr();
        // SAFETY: By the invariant the channel is valid.
        let engine = unsafe { bindings::raid456_dma_engine_number(chan) };
        // SAFETY: As above.
        let channel = unsafe { bindings::raid456_dma_channel_number(chan) };
        write!(f, "dma{engine}chan{channel}")
    }
}

impl Limits for Channel<'_> {
    fn most_sources(&self, kind: Kind, sums: Sums) -> usize {
        let Sums { p, q, more } = sums;
        let chan = self.chan.as_ptr();
        // SAFETY: By the invariant the channel is valid.
        let most = unsafe { bindings::raid456_dma_most_sources(chan, kind.to_raw(), p, q, more) };
        most as usize
    }

    fn takes_pages(&self, kind: Kind) -> bool {
        self.is_aligned(kind, 0, 0, PAGE_SIZE)
    }
}

/// An operation of a stage has ended.
///
/// # Safety
///
/// `end` is valid and its owner a reference to a stage of this type, which is the function's from now on.
unsafe extern "C" fn ended<O: Owner>(end: *const bindings::raid456_dma_end) {
    // SAFETY: By the requirement of this function.
    let end = unsafe { &*end };
    // SAFETY: As above.
    let stage = unsafe { Arc::<Stage<O>>::from_raw(end.owner.cast()) };
    stage.op_ended(end.channel, end.ok, (end.wrong_p, end.wrong_q));
}

/// Memory for lists of what operations read.
pub(crate) struct Lists {
    /// Addresses; not to be used but while they are [`Inputs`].
    from: KVec<usize>,
    factors: KVec<u8>,
}

impl Lists {
    /// Room for as many blocks.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(crate) fn new(blocks: usize, by: &impl Ask) -> Result<Self> {
        let flags = by.flags();
        Ok(Self {
            from: KVec::with_capacity(blocks, flags)?,
            factors: KVec::with_capacity(blocks, flags)?,
        })
    }
}

/// What an operation reads.
///
/// # Invariants
///
/// There are as many factors as addresses, and from each address on `len` bytes may be read for as long as `'p`.
pub(crate) struct Inputs<'l, 'p> {
    lists: &'l mut Lists,
    len: usize,
    _pages: PhantomData<Source<'p>>,
}

impl<'l, 'p> Inputs<'l, 'p> {
    /// No blocks.
    pub(crate) fn new(lists: &'l mut Lists) -> Self {
        lists.from.clear();
        lists.factors.clear();
        // INVARIANT: there is nothing.
        Self {
            lists,
            len: PAGE_SIZE,
            _pages: PhantomData,
        }
    }

    /// A block that is in no page of ours. It must not go beyond its page.
    pub(crate) fn copied(lists: &'l mut Lists, source: Source<'p>) -> Self {
        let mut inputs = Self::new(lists);
        // INVARIANT: the source can be read for so long and so far.
        inputs.len = source.len();
        let _ = inputs.push_address(source.as_ptr() as usize, Element::ONE);
        inputs
    }

    /// The end of a page, from a byte on, to be copied.
    pub(crate) fn end_of(lists: &'l mut Lists, page: &'p Page, at: usize) -> Self {
        let mut inputs = Self::new(lists);
        let at = at.min(PAGE_SIZE);
        // INVARIANT: so much of the page lies behind it.
        inputs.len = PAGE_SIZE.wrapping_sub(at);
        let address = (page.place().as_ptr() as usize).wrapping_add(at);
        let _ = inputs.push_address(address, Element::ONE);
        inputs
    }

    /// One more block. Returns false if there is no room for it.
    #[must_use = "a sum without it is another one"]
    pub(crate) fn push(&mut self, page: &'p Page, factor: Element) -> bool {
        // INVARIANT: a page is as long as `len`, or longer.
        self.push_address(page.place().as_ptr() as usize, factor)
    }

    fn push_address(&mut self, address: usize, factor: Element) -> bool {
        let Lists { from, factors } = &mut *self.lists;
        from.len() < from.capacity()
            && factors.push_within_capacity(factor.0).is_ok()
            && from.push_within_capacity(address).is_ok()
    }
}

/// Where an operation writes to, or what it compares with.
#[derive(Clone, Copy)]
pub(crate) struct Targets<'p> {
    p: Option<NonNull<u8>>,
    q: Option<NonNull<u8>>,
    at: usize,
    len: usize,
    more: bool,
    /// The pages are borrowed to be changed.
    changes: bool,
    _pages: PhantomData<&'p mut Page>,
}

impl<'p> Targets<'p> {
    /// Whole pages to be made; `more` to go on with what is in them.
    pub(crate) fn made(p: Option<&'p mut Page>, q: Option<&'p mut Page>, more: bool) -> Self {
        Self {
            p: p.map(|page| page.place()),
            q: q.map(|page| page.place()),
            at: 0,
            len: PAGE_SIZE,
            more,
            changes: true,
            _pages: PhantomData,
        }
    }

    /// Bytes of a page to be copied to.
    pub(crate) fn bytes(page: &'p mut Page, at: usize, len: usize) -> Self {
        Self {
            p: Some(page.place()),
            at,
            len,
            ..Self::made(None, None, false)
        }
    }

    /// Pages to be compared with; none for [`Kind::XorCheck`], where P is one of the inputs.
    pub(crate) fn compared(p: Option<&'p Page>, q: Option<&'p Page>) -> Self {
        Self {
            p: p.map(Page::place),
            q: q.map(Page::place),
            changes: false,
            ..Self::made(None, None, false)
        }
    }
}
