// SPDX-License-Identifier: GPL-2.0

//! Operations that are submitted one after the other, of whose ends channels tell together.
//!
//! Each operation's end is heard of by itself, with what became of it. But the interrupt, or whatever else it is that has
//! an engine's driver look what has ended, can be one for all: it comes from an operation of its own behind them.

use super::channel::{self, Inputs, Kept, Targets};
use super::course::Kind;
use super::stage::{self, Owner, Stage};
use kernel::sync::Arc;

/// How many channels have their ends told together; what others do is told one by one.
const CHANNELS: usize = 4;

/// After how many operations whose ends nobody tells comes one that is told. So what a channel has no room for behind them to
/// tell of is told of then, and there is room.
const QUIET: u32 = 31;

/// A channel that something was submitted to.
struct Used {
    channel: Kept,
    /// How many ends there are that it has not been asked to tell of.
    untold: u32,
}

/// See the module.
pub(crate) struct Batch {
    used: [Option<Used>; CHANNELS],
    /// Whether there will be enough operations for that.
    many: bool,
}

impl Batch {
    /// Without operations.
    pub(crate) const fn new() -> Self {
        Self {
            used: [const { None }; CHANNELS],
            many: false,
        }
    }

    /// Says whether it is worth it to have ends told together from now on.
    pub(crate) fn expect_many(&mut self, many: bool) {
        self.many = many;
    }

    /// As [`Channel::submit`](super::channel::Channel::submit); what is taken begins with [`Self::end`] at the latest.
    #[must_use = "what was not taken is not done"]
    pub(crate) fn submit<O: Owner>(
        &mut self,
        channel: &Kept,
        kind: Kind,
        inputs: &Inputs<'_, '_>,
        to: Targets<'_>,
        stage: &Arc<Stage<O>>,
    ) -> bool {
        let to_use = channel.get();
        let Some((used, many)) = self.place(channel) else {
            let taken = to_use.submit(kind, inputs, to, stage, false);
            to_use.issue();
            return taken;
        };
        let quiet = many && used.untold < QUIET && to_use.tells();
        let taken = to_use.submit(kind, inputs, to, stage, quiet);
        if taken {
            used.untold = if quiet { used.untold + 1 } else { 0 };
        }
        taken
    }

    /// Where it is noted that a channel is used, and whether there will be many operations.
    fn place(&mut self, channel: &Kept) -> Option<(&mut Used, bool)> {
        let id = channel.get().id();
        let is_it = |used: &Option<Used>| {
            used.as_ref()
                .is_none_or(|used| used.channel.get().id() == id)
        };
        // Those that there are stand in front.
        let place = self.used.iter_mut().find(|used| is_it(used))?;
        let used = place.get_or_insert_with(|| Used {
            channel: channel.clone(),
            untold: 0,
        });
        Some((used, self.many))
    }

    /// Has everything begin, and the channels tell of the ends. Where a channel has no room for that just now it is made to
    /// look what has ended, and asked at the next time.
    pub(crate) fn end(&mut self) {
        let mut left = [const { None }; CHANNELS];
        let mut free = left.iter_mut();
        for mut used in self.used.iter_mut().filter_map(Option::take) {
            let channel = used.channel.get();
            if used.untold != 0 && channel.tell() {
                used.untold = 0;
            }
            channel.issue();
            if used.untold == 0 {
                continue;
            }
            channel.look();
            if let Some(place) = free.next() {
                *place = Some(used);
            }
        }
        self.used = left;
    }

    /// Nobody waits for any end any more. If something was abandoned it may be among what is not told of.
    pub(crate) fn forget(&mut self) {
        let before = core::mem::replace(self, Self::new());
        if stage::abandoned() != 0 {
            let left = before.used.into_iter().flatten();
            left.for_each(|used| channel::ask_on(used.channel));
        }
    }
}
