// SPDX-License-Identifier: GPL-2.0

//! The module's engines, used as the driver uses them: on the pages of one strip after the other.

use crate::contenders::Contender;
use crate::memory::LINE;
use crate::operation::Operation;
use crate::parity::strip::{Blocks, Make};
use crate::parity::{Engine, Line, Source};
use crate::strip::Strip;

/// One of the engines.
pub(crate) struct Ours {
    engine: &'static dyn Engine,
    /// Whether what is copied is stored past the caches.
    past: bool,
}

/// The engines that this CPU can run, or those of them that are named; where parity is made, those that do so also with stores
/// past the caches.
pub(crate) fn all(names: &[String], op: Operation) -> Vec<Ours> {
    let mut all: Vec<&'static dyn Engine> = vec![&crate::parity::scalar::Scalar];
    all.extend(crate::parity::x86::engines().filter_map(|(_, engine)| engine));
    let wanted =
        |engine: &&dyn Engine| names.is_empty() || names.iter().any(|name| name == engine.name());
    let made = matches!(
        op,
        Operation::CopyP
            | Operation::CopyPq
            | Operation::GenP
            | Operation::GenPq
            | Operation::DataAndPByQ
            | Operation::TwoData
    );
    all.retain(wanted);
    let plain = all.iter().map(|engine| Ours {
        engine: *engine,
        past: false,
    });
    let storing = all.iter().filter(|engine| match engine.name() {
        "avx512" | "gfni512" => made,
        "avx2" => matches!(op, Operation::GenPq),
        _ => false,
    });
    let past = storing.map(|engine| Ours {
        engine: *engine,
        past: true,
    });
    plain.chain(past).collect()
}

/// A user's page as the driver sees it.
fn source(page: &[Line]) -> Source<'_> {
    // SAFETY: The bytes of the lines are borrowed for as long as the source.
    unsafe { Source::from_raw(page.as_ptr().cast(), page.len() * LINE) }
}

impl Ours {
    fn piece(&self, op: Operation, strip: &mut Strip<'_>, turn: usize, piece: usize) -> bool {
        let (slot, two, p) = (
            strip.slot(turn) as u16,
            strip.two_slots(turn),
            strip.data as u16,
        );
        let roles = strip.roles;
        let (members, user) = strip.piece(piece);
        let user = |slot: u16| user(slot.into()).map(source);
        let make = Make {
            p: true,
            q: op.has_q(),
        };
        let mut blocks = Blocks::over(members, self.engine, roles).past_caches(self.past);
        match op {
            Operation::CopyP | Operation::CopyPq => blocks.generate_copying(make, user),
            Operation::GenP | Operation::GenPq => blocks.generate(make),
            Operation::DeltaP | Operation::DeltaPq => {
                if let Some(source) = user(0) {
                    blocks.change(slot, 0, source, make);
                }
            }
            Operation::DataByP => blocks.recover(&[slot], None),
            Operation::DataByQ => blocks.recover(&[slot], Some(p)),
            Operation::DataAndPByQ => blocks.recover(&[slot, p], None),
            Operation::TwoData => blocks.recover(&[two.0 as u16, two.1 as u16], None),
            Operation::CheckP | Operation::CheckPq => {
                let wrong = blocks.check(make);
                return !wrong.p && !wrong.q;
            }
        }
        true
    }
}

impl Contender for Ours {
    fn side(&self) -> &'static str {
        "ours"
    }

    fn name(&self) -> String {
        format!(
            "{}{}",
            self.engine.name(),
            if self.past { " past the cache" } else { "" }
        )
    }

    fn run(&self, op: Operation, strip: &mut Strip<'_>, turn: usize) -> bool {
        (0..strip.pieces()).fold(true, |said, piece| {
            said & self.piece(op, strip, turn, piece)
        })
    }
}
