// SPDX-License-Identifier: GPL-2.0

//! Which engine makes parity: the fastest that this CPU can run, or the one that the parameter `parity_engine` names.
//!
//! It is chosen once, when the module is loaded, and said in the log and in `/sys/module/raid456/parameters/parity_engine`.

use super::kernel::Kernel;
use super::scalar::Scalar;
use super::strip::{Blocks, Make};
use super::{Block, Engine, Line, Source, LINE_BYTES};
use crate::bindings;
use crate::mem::kit::Kit;
use crate::mem::pages::PAGE_SIZE;
use crate::mem::Setup;
use crate::raid::roles::{Roles, Slots};
use core::fmt;
use kernel::prelude::*;
use kernel::sync::SetOnce;
use kernel::time::{Instant, Monotonic};

/// The engine that was chosen.
static SELECTED: SetOnce<&'static dyn Engine> = SetOnce::new();

/// How long each engine is timed, but for a round before and one behind: six of them together stay below 50 ms, unless single
/// rounds take longer than 2 ms.
const NANOSECONDS: i64 = 3_000_000;

/// Most rounds that are timed at once.
const ROUNDS: i64 = 64;

/// Data members that engines are timed with.
const DATA: u16 = 8;

/// Engines are as good as the fastest if they take less than one part in so many longer.
const CLOSE: i64 = 16;

/// The engine that makes parity.
pub(crate) fn selected() -> &'static dyn Engine {
    SELECTED.copy().unwrap_or(&Scalar)
}

/// Chooses the engine, and says which. When the module is loaded; may sleep.
///
/// # Errors
///
/// `EINVAL`: the parameter names none. `ENODEV`: it names one that this CPU cannot run. `ENOMEM`.
pub(crate) fn choose(setup: &Setup) -> Result {
    let engine = match wanted()? {
        "" | "auto" => fastest(setup)?,
        name => {
            let engine = find(name)?;
            pr_info!("parity engine {}, as parity_engine says\n", engine.name());
            engine
        }
    };
    SELECTED.populate(engine);
    let name = engine.name();
    // SAFETY: The name is valid for so many bytes, and nobody else uses the parameter while the module is being loaded.
    unsafe { bindings::raid456_engine_chosen(name.as_ptr().cast(), name.len()) };
    Ok(())
}

/// What the parameter says.
fn wanted() -> Result<&'static str> {
    // SAFETY: The function has no requirements.
    let text = unsafe { bindings::raid456_engine_wanted() };
    // SAFETY: It is a string, which does not change before `raid456_engine_chosen`, and is not used after that.
    unsafe { CStr::from_char_ptr(text) }
        .to_str()
        .map_err(|_| EINVAL)
}

/// Every engine: its name, and the engine if this CPU can run it.
fn all() -> impl Iterator<Item = (&'static str, Option<&'static dyn Engine>)> {
    let everywhere: [&'static dyn Engine; 2] = [&Scalar, &Kernel];
    let engines = everywhere
        .into_iter()
        .map(|engine| (engine.name(), Some(engine)));
    #[cfg(target_arch = "x86_64")]
    let engines = Iterator::chain(engines, super::x86::engines());
    engines
}

/// The engines that this CPU can run. Each may only be used in task context with interrupts on.
pub(super) fn usable() -> impl Iterator<Item = &'static dyn Engine> {
    all().filter_map(|(_, engine)| engine)
}

/// The engine of a name.
pub(super) fn find(name: &str) -> Result<&'static dyn Engine> {
    match all().find(|(known, _)| *known == name) {
        Some((_, Some(engine))) => Ok(engine),
        Some((_, None)) => {
            pr_err!(
                "parity engine {name} needs instructions that this CPU lacks: it has {Names}\n"
            );
            Err(ENODEV)
        }
        None => {
            pr_err!("there is no parity engine \"{name}\": this CPU has {Names}\n");
            Err(EINVAL)
        }
    }
}

/// The names of the engines that can be used.
struct Names;

impl kernel::fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, engine) in usable().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", engine.name())?;
        }
        Ok(())
    }
}

/// Times all engines, and says how fast they are, and how long that took.
fn fastest(setup: &Setup) -> Result<&'static dyn Engine> {
    let began = Instant::<Monotonic>::now();
    let mut bench = Bench::new(setup)?;
    let mut times = [None; 8];
    for (place, engine) in times.iter_mut().zip(usable()) {
        *place = Some((engine, bench.time(engine)));
    }
    let best = times.iter().flatten().map(|(_, time)| *time).min();
    // Such short times differ by as much from one load to the next. Engines come in the order of what their instructions can
    // do, and the last ones do more at once than what is timed here.
    let limit = best.map_or(0, |best| best.saturating_add(best / CLOSE));
    let mut close = times.iter().flatten().filter(|(_, time)| *time <= limit);
    let Some((engine, time)) = close.next_back() else {
        return Ok(&Scalar);
    };
    pr_info!(
        "parity engine {}: {} MB/s ({}), chosen in {} ms\n",
        engine.name(),
        speed(*time),
        Others(&times, engine.name()),
        began.elapsed().as_millis()
    );
    Ok(*engine)
}

/// Megabytes of data a second, for the time that [`ROUNDS`] rounds take.
fn speed(nanoseconds: i64) -> i64 {
    let blocks = i64::from(DATA).saturating_add(1);
    let bytes = blocks.saturating_mul(PAGE_SIZE as i64);
    let scaled = bytes.saturating_mul(ROUNDS).saturating_mul(1000);
    scaled.checked_div(nanoseconds).unwrap_or(0)
}

/// An engine and how long [`ROUNDS`] rounds take it.
type Timed = Option<(&'static dyn Engine, i64)>;

/// The speeds of all engines but the one of a name.
struct Others<'a>(&'a [Timed], &'a str);

impl kernel::fmt::Display for Others<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.0.iter().flatten();
        let others = others.filter(|(engine, _)| engine.name() != self.1);
        for (index, (engine, time)) in others.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", engine.name(), speed(*time))?;
        }
        Ok(())
    }
}

/// What engines are timed with: a strip, and as much memory again that is written to it.
struct Bench {
    strip: Kit,
    source: Kit,
}

impl Bench {
    fn new(setup: &Setup) -> Result<Self> {
        let kit = |members: u16| -> Result<Kit> {
            let mut kit = Kit::new(members, setup)?;
            for (page, number) in kit.pages_mut().iter_mut().zip(1..) {
                let block: &mut Block = page.view_mut().ok_or(EBUSY)?;
                block.fill(Line([number; LINE_BYTES / 8]));
            }
            Ok(kit)
        };
        Ok(Self {
            strip: kit(DATA.saturating_add(2))?,
            source: kit(DATA)?,
        })
    }

    /// The shortest time, in nanoseconds, that an engine takes for [`ROUNDS`] rounds: in each a full strip is written, with
    /// P and Q, then one block of it.
    fn time(&mut self, engine: &'static dyn Engine) -> i64 {
        // What only the first round takes, such as to fetch code, does not count.
        self.round(engine);
        let began = Instant::<Monotonic>::now();
        // Clocks are coarse, and take time themselves: so many rounds at once, but few if they take long.
        let mut rounds = 1;
        let mut shortest = i64::MAX;
        while began.elapsed().as_nanos() < NANOSECONDS {
            let start = Instant::<Monotonic>::now();
            for _ in 0..rounds {
                self.round(engine);
            }
            let time = start.elapsed().as_nanos();
            let for_all = time.saturating_mul(ROUNDS).checked_div(rounds);
            shortest = shortest.min(for_all.unwrap_or(i64::MAX));
            let next = (NANOSECONDS / 32).saturating_mul(rounds).checked_div(time);
            rounds = next.unwrap_or(ROUNDS).clamp(1, ROUNDS);
        }
        shortest
    }

    fn round(&mut self, engine: &dyn Engine) {
        let both = Make { p: true, q: true };
        let roles = Roles::new(
            DATA.saturating_add(2),
            DATA,
            Some(DATA.saturating_add(1)),
            Slots::AfterQ,
        );
        let source = |member: u16| {
            let bytes: &[u8; PAGE_SIZE] = self.source.page(member)?.view()?;
            Some(Source::new(bytes))
        };
        let mut blocks = Blocks::over(self.strip.pages_mut(), engine, roles);
        blocks.generate_copying(both, source);
        if let Some(source) = source(1) {
            blocks.change(DATA / 2, 0, source, both);
        }
    }
}
