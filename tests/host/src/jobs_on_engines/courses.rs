// SPDX-License-Identifier: GPL-2.0

//! Jobs on an engine that is a few lines of arithmetic, with all sorts of limits: what is made is right, also in pages where
//! a job was left half done, in whichever place.

use super::recipes::{noise, parities, strips, Strip, STRIP};
use crate::offload::course::{
    go_on, next_chunk, Asked, Course, Kind, Limits, Progress, Standing, Step, Sum, Sums, Verdict,
    Why,
};
use crate::offload::recipe::{Recipe, Target, Term};
use crate::parity::gf::Element;
use crate::raid::column::Column;
use crate::raid::job::{Job, Method};
use crate::raid::strips::Strips;

/// What a channel can do.
#[derive(Clone, Copy, Debug)]
struct Channel {
    xor: usize,
    pq: usize,
    /// Whether P and Q are gone on with without being read as blocks.
    continues: bool,
}

impl Limits for Channel {
    // As dmaengine counts (dma_maxpq, async_xor).
    fn most_sources(&self, kind: Kind, sums: Sums) -> usize {
        match kind {
            Kind::Copy => usize::from(!sums.more),
            Kind::Xor => self.xor - usize::from(sums.more),
            Kind::XorCheck => self.xor,
            Kind::Pq | Kind::PqCheck if !sums.more || self.continues => self.pq,
            Kind::Pq if sums.p && sums.q => self.pq - 3,
            Kind::Pq => self.pq - 1,
            Kind::PqCheck => 0,
        }
    }

    fn takes_pages(&self, _kind: Kind) -> bool {
        true
    }
}

const CHANNELS: [Channel; 5] = [
    channel(32, 32, true),
    channel(8, 8, true),
    channel(2, 4, false),
    channel(3, 5, true),
    channel(5, 4, true),
];

const fn channel(xor: usize, pq: usize, continues: bool) -> Channel {
    Channel { xor, pq, continues }
}

/// One byte of each spare page.
type Spare = Vec<Element>;

/// How a job has gone on an engine.
#[derive(Debug)]
enum End {
    /// It has made all there is to make, by as many operations.
    Made(Spare, usize),
    /// An operation has failed; what is in the spare pages is of no use.
    Failed(Spare),
}

/// A job on an engine, whose operation number `fails` ends half done, with an error.
struct Run<'a> {
    channel: Channel,
    old: &'a Strip,
    new: &'a Strip,
    columns: &'a [Column],
    fails: Option<usize>,
    operations: usize,
    spare: Spare,
}

impl Run<'_> {
    /// One more operation; whether it has ended well.
    fn operation(&mut self) -> bool {
        self.operations += 1;
        self.fails != Some(self.operations - 1)
    }

    fn go(mut self, job: Job) -> End {
        let recipe = Recipe {
            job,
            roles: self.old.roles,
            columns: self.columns,
            strip: STRIP,
        };
        // First stage: what is written.
        let written = |(_, column): &(usize, &Column)| column.dirty.meets(STRIP);
        if matches!(job, Job::Write(_)) {
            for (member, _) in self.columns.iter().enumerate().filter(written) {
                if !self.operation() {
                    return End::Failed(self.spare);
                }
                self.spare[member] = self.new.bytes[member];
            }
        }
        let mut course = Course::new();
        let mut lists: Vec<Vec<Term>> = Vec::new();
        let mut planned = 0;
        for (number, target) in recipe.targets().into_iter().enumerate() {
            let mut terms = Vec::new();
            if let Some(target) = target {
                recipe.each_term(target, |term| terms.push(term));
                let sum = Sum::new(job, target, terms.len());
                planned += sum.operations(&self.channel).expect("it can be done");
                course.set(number, sum);
            }
            lists.push(terms);
        }
        for (member, column) in (0..).zip(self.columns) {
            assert_eq!(course.makes(member), column.rebuild.meets(STRIP));
        }
        let copied = self.operations;
        // Then a stage for each step that there is left.
        while !course.is_done() {
            let all = course.begin(|number, sum| {
                let step = sum.next(&self.channel).expect("a step");
                let well = self.step(&step, sum.target(), &lists[number]);
                well.then_some(step)
            });
            if !all {
                return End::Failed(self.spare);
            }
        }
        assert_eq!(
            self.operations - copied,
            planned,
            "{job:?}: as many as planned"
        );
        End::Made(self.spare, self.operations)
    }

    /// What hardware does: it keeps to its limits, and reads what it goes on with.
    fn step(&mut self, step: &Step, target: Target, terms: &[Term]) -> bool {
        let (kind, sums) = (step.kind, step.sums);
        let count = step.terms.len();
        assert!(
            count > 0 && count <= self.channel.most_sources(kind, sums),
            "{step:?}"
        );
        assert!(
            kind != Kind::Xor || count + usize::from(sums.more) >= 2,
            "{step:?}"
        );
        let asked = Asked {
            kind,
            sums,
            changes: true,
            sources: count,
        };
        assert!(asked.is_sound(&self.channel), "{step:?}");
        let well = self.operation();
        let mut made = [target.p, target.q].map(|member| {
            let there = member.filter(|_| sums.more);
            there.map_or(Element(0), |member| self.spare[usize::from(member)])
        });
        for term in &terms[step.terms.clone()] {
            let member = usize::from(term.member);
            let byte = if term.new {
                self.spare[member]
            } else {
                self.old.bytes[member]
            };
            made[0] = made[0].add(byte);
            made[1] = made[1].add(byte.mul(term.factor));
        }
        for (member, sum) in [target.p, target.q].into_iter().zip(made) {
            if let Some(member) = member {
                // Half of an operation that fails is done.
                let noise = if well { Element(0) } else { Element(0x5a) };
                self.spare[usize::from(member)] = sum.add(noise);
            }
        }
        well
    }
}

/// Expects that a job makes the blocks of `new`, on each channel, and once more after it has failed in each place.
fn expect(old: &Strip, new: &Strip, job: Job, columns: &[Column]) {
    for channel in CHANNELS {
        let run = |fails, spare| Run {
            channel,
            old,
            new,
            columns,
            fails,
            operations: 0,
            spare,
        };
        let fresh = || vec![Element(0xee); old.bytes.len()];
        let End::Made(made, operations) = run(None, fresh()).go(job) else {
            panic!("{job:?} has failed");
        };
        for (member, column) in columns.iter().enumerate() {
            let copied = matches!(job, Job::Write(_)) && column.dirty.meets(STRIP);
            if copied || column.rebuild.meets(STRIP) {
                assert_eq!(
                    made[member], new.bytes[member],
                    "{job:?} on {channel:?}, {member}"
                );
            }
        }
        for fails in 0..operations {
            let End::Failed(left) = run(Some(fails), fresh()).go(job) else {
                panic!("{job:?} has not failed in operation {fails}");
            };
            // The next job in these pages does not take what is left there for its own.
            let End::Made(again, _) = run(None, left).go(job) else {
                panic!("{job:?} has failed once more");
            };
            for (member, column) in columns.iter().enumerate() {
                if column.rebuild.meets(STRIP) {
                    assert_eq!(
                        again[member], new.bytes[member],
                        "{job:?} done again, {member}"
                    );
                }
            }
        }
    }
}

fn columns(old: &Strip) -> Vec<Column> {
    let mut columns = vec![Column::default(); old.bytes.len()];
    columns
        .iter_mut()
        .for_each(|column| column.uptodate = STRIP);
    columns
}

/// Not as many as in the tests of recipes: each is done in all ways.
fn some_strips() -> impl Iterator<Item = Strip> {
    strips()
        .into_iter()
        .filter(|s| s.roles.members() < 20)
        .step_by(3)
}

#[test]
fn writes_come_out_right_whatever_a_channel_can_do_at_once() {
    let mut seed = 99;
    for old in some_strips() {
        let mut new = old.clone();
        let mut columns = columns(&old);
        for (member, column) in columns.iter_mut().enumerate() {
            if old.roles.is_data(member) && noise(&mut seed) % 3 != 0 {
                column.dirty = STRIP;
                new.bytes[member] = Element(noise(&mut seed) as u8);
            }
        }
        new.make_parity();
        for parity in parities(old.roles) {
            columns[usize::from(parity)].rebuild = STRIP;
        }
        for method in [Method::Rmw, Method::Rcw] {
            expect(&old, &new, Job::Write(method), &columns);
        }
    }
}

#[test]
fn lost_blocks_come_out_right_whatever_a_channel_can_do_at_once() {
    for strip in some_strips() {
        let parity = parities(strip.roles).len();
        for x in 0..strip.roles.members() {
            let mut columns = columns(&strip);
            // The second one is the next but one.
            let y = (x + 2) % strip.roles.members();
            for lost in [x, y].into_iter().take(parity) {
                let column = &mut columns[usize::from(lost)];
                (column.uptodate, column.rebuild) = (Strips::NONE, STRIP);
            }
            expect(&strip, &strip, Job::Recover, &columns);
        }
    }
}

#[test]
fn next_stage_begins_after_one_that_has_ended_well_and_no_other() {
    for (standing, verdict) in [
        (Standing::Pending, Verdict::Pending),
        (Standing::Failed, Verdict::Again(Why::Failed)),
        (Standing::Differs, Verdict::Again(Why::Differs)),
        (Standing::Late, Verdict::Again(Why::Late)),
    ] {
        let begun = || -> Progress { panic!("something begins when a stage is {standing:?}") };
        assert_eq!(go_on(standing, begun), verdict);
    }
    for (progress, verdict) in [
        (Progress::Pending, Verdict::Pending),
        (Progress::Done, Verdict::Done),
        (Progress::Failed, Verdict::Again(Why::Failed)),
    ] {
        assert_eq!(go_on(Standing::Well, || progress), verdict);
    }
}

#[test]
fn sum_that_cannot_go_on_holds_no_other_and_is_not_made() {
    let target = Target {
        p: Some(0),
        q: None,
    };
    let sum = |terms| Sum::new(Job::Parity, target, terms);
    let channel = CHANNELS[3];
    let mut course = Course::new();
    course.set(0, sum(7));
    course.set(1, sum(5));
    let mut begun = Vec::new();
    let mut stage = |course: &mut Course, refused: Option<usize>| {
        course.begin(|number, sum| {
            if refused == Some(number) {
                return None;
            }
            let step = sum.next(&channel)?;
            begun.push((number, step.terms.clone()));
            Some(step)
        })
    };
    assert!(stage(&mut course, None));
    assert!(!stage(&mut course, Some(0)), "one of the two is not begun");
    assert!(!course.is_done());
    // The one that was refused goes on where it was, the other one is done.
    while !course.is_done() {
        assert!(stage(&mut course, None));
    }
    assert_eq!(
        begun,
        [(0, 0..3), (1, 0..3), (1, 3..5), (0, 3..5), (0, 5..7)]
    );
}

#[test]
fn checks_are_not_split() {
    let sum = |terms, q| Sum::new(Job::Check, Target { p: Some(0), q }, terms);
    for channel in CHANNELS {
        for terms in 2..40 {
            let one = sum(terms, None).operations(&channel);
            assert_eq!(
                one,
                (terms <= channel.xor).then_some(1),
                "{terms} by {channel:?}"
            );
            let two = sum(terms, Some(1)).operations(&channel);
            assert_eq!(
                two,
                (terms <= channel.pq).then_some(1),
                "{terms} by {channel:?}"
            );
        }
    }
}

#[test]
fn chunks_are_as_large_as_allowed_and_make_up_the_whole() {
    for first in 0..9 {
        for more in 0..9 {
            for total in 1..40 {
                let (mut done, mut sizes) = (0, Vec::new());
                while done < total {
                    let Some(size) = next_chunk(total - done, done != 0, first, more) else {
                        break;
                    };
                    assert!(size > 0 && size <= if done == 0 { first } else { more });
                    done += size;
                    sizes.push(size);
                }
                let possible = first > 0 && (total <= first || more > 0);
                assert_eq!(
                    done == total,
                    possible,
                    "{total} blocks by {first} and {more}: {sizes:?}"
                );
                assert!(
                    possible || done == 0,
                    "{total} blocks by {first} and {more}: begun, and stuck"
                );
                if possible && total > first {
                    assert_eq!(sizes.len(), 1 + (total - first).div_ceil(more));
                }
            }
        }
    }
}

#[test]
fn channel_is_asked_for_nothing_that_it_would_write_elsewhere_or_has_no_room_for() {
    const KINDS: [Kind; 5] = [
        Kind::Copy,
        Kind::Xor,
        Kind::Pq,
        Kind::XorCheck,
        Kind::PqCheck,
    ];
    const BOTH: [bool; 2] = [false, true];
    let all = KINDS
        .into_iter()
        .flat_map(|kind| BOTH.map(|changes| (kind, changes)));
    for (kind, changes) in all {
        for (p, q, more) in (0..8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0)) {
            let writes = !matches!(kind, Kind::XorCheck | Kind::PqCheck);
            // What hardware writes to, or compares with.
            let pages = match kind {
                Kind::Copy | Kind::Xor => (p, q) == (true, false),
                Kind::Pq | Kind::PqCheck => p || q,
                Kind::XorCheck => !p && !q,
            };
            let goes_on = !more || matches!(kind, Kind::Xor | Kind::Pq);
            for channel in CHANNELS {
                let sums = Sums { p, q, more };
                let most = channel.most_sources(kind, sums);
                for sources in 0..40 {
                    let asked = Asked {
                        kind,
                        sums,
                        changes,
                        sources,
                    };
                    let expected =
                        writes == changes && pages && goes_on && sources > 0 && sources <= most;
                    assert_eq!(
                        asked.is_sound(&channel),
                        expected,
                        "{asked:?} by {channel:?}"
                    );
                }
            }
        }
    }
}

/// A channel whose operations cannot begin where pages do.
struct Elsewhere;

impl Limits for Elsewhere {
    fn most_sources(&self, _kind: Kind, _sums: Sums) -> usize {
        32
    }

    fn takes_pages(&self, _kind: Kind) -> bool {
        false
    }
}

#[test]
fn one_block_is_copied_and_what_takes_no_pages_makes_nothing() {
    for job in [Job::Parity, Job::Recover, Job::Write(Method::Rcw)] {
        for (q, kind) in [(None, Kind::Copy), (Some(1), Kind::Pq)] {
            // Of two members one has data: engines add no less than two blocks.
            let sum = Sum::new(job, Target { p: Some(0), q }, 1);
            for channel in CHANNELS {
                assert_eq!(sum.next(&channel).map(|step| step.kind), Some(kind));
                assert_eq!(sum.operations(&channel), Some(1));
            }
            assert_eq!(sum.next(&Elsewhere), None);
            assert_eq!(sum.operations(&Elsewhere), None);
        }
    }
}
