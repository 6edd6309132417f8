// SPDX-License-Identifier: GPL-2.0

//! Tests in the kernel: every engine that this CPU can run against the scalar one, and that against the kernel's own
//! `xor_gen` and `raid6_...`. The host tests the scalar one against the definition of the field.

#[kernel::macros::kunit_tests(raid456_parity)]
mod tests {
    use crate::bindings;
    use crate::mem::kit::Kit;
    use crate::mem::kunit::setup;
    use crate::parity::engine;
    use crate::parity::gf::Element;
    use crate::parity::group::ZEROS;
    use crate::parity::locate::Located;
    use crate::parity::scalar::Scalar;
    use crate::parity::strip::{Blocks, Holder, Make};
    use crate::parity::{
        Block, Engine, Group, Input, Line, Parity, Source, Start, Sums, Wrong, BLOCK_LINES, GROUP,
        LINE_BYTES,
    };
    use crate::raid::roles::{Roles, Slots};
    use core::ffi::c_void;
    use core::fmt::Arguments;
    use core::ops::Range;
    use kernel::prelude::*;

    /// Whether the machine runs at its own speed: else less is tried, for one that is emulated is slow.
    const FAST: bool = cfg!(CONFIG_UML);

    const BOTH: Make = Make { p: true, q: true };

    /// Which of P and Q there are.
    const PARITIES: [(bool, bool); 3] = [(true, false), (false, true), (true, true)];

    /// Numbers of members: all small ones, those around the ends of groups, and the most.
    fn widths() -> impl Iterator<Item = u16> {
        let small = if FAST { 4..=21 } else { 4..=6 };
        let all: &[u16] = if FAST {
            &[33, 34, 35, 36, 128, 129, 254, 255]
        } else {
            &[18, 19, 35, 255]
        };
        Iterator::chain(small, all.iter().copied())
    }

    /// Roles that the kernel's library does not know: without Q, where data members fill a group, are one more, or the
    /// most; and as DDF counts, where every member has a slot, with P and Q in any place.
    fn other_roles() -> impl Iterator<Item = Roles> {
        let sums: &[u16] = if FAST {
            &[2, 3, 16, 17, 18, 255]
        } else {
            &[3, 18]
        };
        let ddf: &[(u16, u16, u16)] = if FAST {
            &[(4, 0, 3), (17, 16, 0), (35, 17, 18), (253, 1, 0)]
        } else {
            &[(5, 2, 1), (18, 9, 8)]
        };
        let sums = sums
            .iter()
            .map(|members| Roles::new(*members, members / 3, None, Slots::AfterQ));
        let ddf = ddf
            .iter()
            .map(|(members, p, q)| Roles::new(*members, *p, Some(*q), Slots::EveryMember));
        Iterator::chain(sums, ddf)
    }

    /// Lines: 512 bytes and less, whole blocks and others, 64 KiB.
    fn lengths() -> &'static [usize] {
        if FAST {
            &[1, 2, 7, 8, 9, 16, 56, 63, 64, 65, 200, 1024]
        } else {
            &[1, 9, 16, 72]
        }
    }

    /// Says what went wrong, if something did.
    fn expect(good: bool, what: Arguments<'_>) -> Result {
        if !good {
            pr_err!("raid456_parity: {what}\n");
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Words that look random.
    struct Noise(u64);

    impl Noise {
        fn word(&mut self) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            self.0 ^ (self.0 >> 29)
        }

        fn below(&mut self, end: u16) -> u16 {
            ((self.word() >> 20) % u64::from(end.max(1))) as u16
        }

        fn fill(&mut self, lines: &mut [Line]) {
            for word in lines.iter_mut().flat_map(|line| line.0.iter_mut()) {
                *word = self.word();
            }
        }

        fn lines(&mut self, count: usize) -> Result<KVVec<Line>> {
            let mut lines = KVVec::from_elem(Line::ZERO, count, GFP_KERNEL)?;
            self.fill(&mut lines);
            Ok(lines)
        }

        fn blocks(&mut self, count: u16) -> Result<KVVec<Block>> {
            let zeros = [Line::ZERO; BLOCK_LINES];
            let mut blocks = KVVec::from_elem(zeros, count.into(), GFP_KERNEL)?;
            for block in blocks.iter_mut() {
                self.fill(block);
            }
            Ok(blocks)
        }
    }

    fn copy<T: Copy>(from: &[T]) -> Result<KVVec<T>> {
        let mut to = KVVec::with_capacity(from.len(), GFP_KERNEL)?;
        to.extend_from_slice(from, GFP_KERNEL)?;
        Ok(to)
    }

    /// The bytes of lines, from byte `shift` on.
    fn source(lines: &[Line], shift: usize) -> Source<'_> {
        let bytes = lines.len() * LINE_BYTES - shift;
        // SAFETY: The bytes lie within the lines, which are borrowed for as long as the source.
        unsafe { Source::from_raw(lines.as_ptr().cast::<u8>().wrapping_add(shift), bytes) }
    }

    /// Engines that are compared with the scalar one.
    fn others() -> impl Iterator<Item = &'static dyn Engine> {
        engine::usable().filter(|engine| engine.name() != Scalar.name())
    }

    fn parity<'a>(p: &'a mut [Line], q: &'a mut [Line], which: (bool, bool)) -> Parity<'a> {
        Parity {
            p: which.0.then_some(p),
            q: which.1.then_some(q),
        }
    }

    /// A group of inputs and what comes of it.
    struct Content {
        /// Blocks, or where copies come from, with a line more than is used.
        content: KVec<KVVec<Line>>,
        copies: KVec<KVVec<Line>>,
        p: KVVec<Line>,
        q: KVVec<Line>,
    }

    impl Content {
        fn new(noise: &mut Noise, inputs: usize, lines: usize) -> Result<Self> {
            let mut group = Self {
                content: KVec::new(),
                copies: KVec::new(),
                p: noise.lines(lines)?,
                q: noise.lines(lines)?,
            };
            for _ in 0..inputs {
                group.content.push(noise.lines(lines + 1)?, GFP_KERNEL)?;
                group.copies.push(noise.lines(lines)?, GFP_KERNEL)?;
            }
            Ok(group)
        }

        fn copied(&self) -> Result<Self> {
            let mut group = Self {
                content: KVec::new(),
                copies: KVec::new(),
                p: copy(&self.p)?,
                q: copy(&self.q)?,
            };
            for (content, copies) in self.content.iter().zip(&self.copies) {
                group.content.push(copy(content)?, GFP_KERNEL)?;
                group.copies.push(copy(copies)?, GFP_KERNEL)?;
            }
            Ok(group)
        }

        /// Calls `work` with a block of the inputs after the other, some of them zeros, some to be copied from addresses that are
        /// not aligned, with P and Q, and with the lines that it has.
        fn each_block(
            &mut self,
            mixed: bool,
            mut work: impl FnMut(&mut Group<'_>, &mut [Line], &mut [Line], Range<usize>),
        ) {
            let lines = self.p.len();
            for first in (0..lines).step_by(BLOCK_LINES) {
                let part = first..(first + BLOCK_LINES).min(lines);
                let mut group = Group::new();
                let all = self.content.iter().zip(self.copies.iter_mut());
                for (index, (content, to)) in all.enumerate() {
                    group.push(match index % 5 {
                        1 if mixed => Input::Zero,
                        2 | 3 if mixed => Input::Copy {
                            from: source(&content[first..], [0, 8, 1][index % 3]),
                            to: &mut to[part.clone()],
                        },
                        _ => Input::Block(&content[part.clone()]),
                    });
                }
                let (p, q) = (&mut self.p[part.clone()], &mut self.q[part.clone()]);
                work(&mut group, p, q, part);
            }
        }

        fn is_same(&self, other: &Self) -> bool {
            let same = |a: &KVVec<Line>, b: &KVVec<Line>| a[..] == b[..];
            let mut copies = self.copies.iter().zip(&other.copies);
            same(&self.p, &other.p)
                && same(&self.q, &other.q)
                && copies.all(|(mine, other)| same(mine, other))
        }
    }

    #[test]
    fn engines_generate_as_scalar_does() -> Result {
        let mut noise = Noise(1);
        for &lines in lengths() {
            for inputs in (0..=GROUP).filter(|n| FAST && lines <= 64 || matches!(n, 3 | 16)) {
                let group = Content::new(&mut noise, inputs, lines)?;
                for (start, which) in [Start::Zero, Start::Begun]
                    .into_iter()
                    .flat_map(|start| PARITIES.map(|which| (start, which)))
                {
                    for mixed in [false, true] {
                        let run = |engine: &dyn Engine| -> Result<Content> {
                            let mut group = group.copied()?;
                            group.each_block(mixed, |group, p, q, _| {
                                engine.generate(group, parity(p, q, which), start);
                            });
                            Ok(group)
                        };
                        let right = run(&Scalar)?;
                        for engine in others() {
                            expect(
                                run(engine)?.is_same(&right),
                                format_args!(
                                    "{}: {inputs} inputs of {lines} lines, {start:?}, (P, Q) {which:?}",
                                    engine.name()
                                ),
                            )?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn engines_check_as_scalar_generates() -> Result {
        let mut noise = Noise(2);
        for &lines in lengths() {
            for inputs in [0, 1, 3, 16] {
                let mut group = Content::new(&mut noise, inputs, lines)?;
                let begun = (copy(&group.p)?, copy(&group.q)?);
                group.each_block(false, |group, p, q, _| {
                    Scalar.generate(group, parity(p, q, (true, true)), Start::Begun);
                });
                let (mut p, mut q) = (copy(&group.p)?, copy(&group.q)?);
                let bad = usize::from(noise.below(lines as u16));
                let places = [(false, false), (true, false), (false, true), (true, true)];
                for (in_p, in_q) in places {
                    p[bad].0[3] ^= u64::from(in_p) << 41;
                    q[bad].0[7] ^= u64::from(in_q) << 2;
                    for engine in engine::usable() {
                        for which in PARITIES {
                            let mut found = Wrong::default();
                            group.each_block(false, |group, _, _, part| {
                                let begun = Sums {
                                    p: Some(&begun.0[part.clone()]),
                                    q: Some(&begun.1[part.clone()]),
                                };
                                let stored = Sums {
                                    p: which.0.then_some(&p[part.clone()]),
                                    q: which.1.then_some(&q[part]),
                                };
                                let wrong = engine.check(group, begun, stored);
                                found.p |= wrong.p;
                                found.q |= wrong.q;
                            });
                            let expected = Wrong {
                                p: in_p && which.0,
                                q: in_q && which.1,
                            };
                            expect(
                                found == expected,
                                format_args!(
                                    "{}: {inputs} inputs of {lines} lines, (P, Q) {which:?}, line {bad} wrong: \
                                     expected {expected:?}, found {found:?}",
                                    engine.name()
                                ),
                            )?;
                        }
                    }
                    p[bad].0[3] ^= u64::from(in_p) << 41;
                    q[bad].0[7] ^= u64::from(in_q) << 2;
                }
            }
        }
        Ok(())
    }

    /// Engines' work on one block, with any factor.
    #[test]
    fn engines_multiply_as_scalar_does() -> Result {
        let mut noise = Noise(3);
        for &lines in lengths() {
            let every = FAST && lines == 9;
            for factor in (0..=255_u8)
                .filter(|f| every || matches!(f, 2 | 0x8e) || FAST && matches!(f, 0 | 1 | 0xff))
            {
                let other = Element(noise.word() as u8);
                let factor = Element(factor);
                let new = noise.lines(lines + 1)?;
                let blocks = [(); 4].map(|()| noise.lines(lines));
                let run = |engine: &dyn Engine, work: usize| -> Result<[KVVec<Line>; 4]> {
                    let [a, b, c, d] = &blocks;
                    let block = |lines: &Result<KVVec<Line>>| -> Result<KVVec<Line>> {
                        copy(lines.as_ref().map_err(|_| ENOMEM)?)
                    };
                    let (mut a, mut b) = (block(a)?, block(b)?);
                    let (mut c, d) = (block(c)?, block(d)?);
                    match work {
                        0 => engine.recover_one(&mut a, &b, factor, None),
                        1 => engine.recover_one(&mut a, &b, factor, Some(&mut c)),
                        2 => engine.recover_two(&mut a, &mut b, (&c, &d), (factor, other)),
                        3..=5 => {
                            let parity = parity(&mut b, &mut c, PARITIES[work - 3]);
                            engine.change(&mut a, source(&new, 1), parity, factor);
                        }
                        _ => {
                            let parity = parity(&mut b, &mut c, PARITIES[work - 6]);
                            engine.delta(&a, &d, parity, factor);
                        }
                    }
                    Ok([a, b, c, d])
                };
                for work in 0..9 {
                    let right = run(&Scalar, work)?;
                    for engine in others() {
                        let found = run(engine, work)?;
                        let same = found.iter().zip(&right).all(|(a, b)| a[..] == b[..]);
                        expect(
                            same,
                            format_args!(
                                "{}: work {work} on {lines} lines with {factor:?}, {other:?}",
                                engine.name()
                            ),
                        )?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Roles of the kernel's library: data first, then P, then Q.
    fn roles(members: u16) -> Roles {
        Roles::new(members, members - 2, Some(members - 1), Slots::AfterQ)
    }

    /// A strip with right parity.
    fn strip(noise: &mut Noise, members: u16, roles: Roles) -> Result<KVVec<Block>> {
        let mut blocks = noise.blocks(members)?;
        Blocks::over(&mut blocks, &Scalar, roles).generate(BOTH);
        Ok(blocks)
    }

    /// The addresses of blocks, as the kernel's library takes them.
    fn pointers(blocks: &mut [Block]) -> Result<KVec<*mut c_void>> {
        let mut pointers = KVec::with_capacity(blocks.len(), GFP_KERNEL)?;
        for block in blocks {
            pointers.push(block.as_mut_ptr().cast(), GFP_KERNEL)?;
        }
        Ok(pointers)
    }

    const BYTES: usize = size_of::<Block>();

    /// Makes P by the kernel's XOR: of some blocks at a time, for it takes its time.
    fn p_by_the_kernel(blocks: &mut [Block], roles: Roles) -> Result {
        let p = usize::from(roles.p());
        blocks[p].fill(Line::ZERO);
        let all = pointers(blocks)?;
        let mut data = KVec::with_capacity(all.len(), GFP_KERNEL)?;
        for (member, block) in all.iter().enumerate() {
            if roles.is_data(member) {
                data.push(*block, GFP_KERNEL)?;
            }
        }
        for some in data.chunks_mut(8) {
            let count = some.len() as u32;
            // SAFETY: The pointers are those of `count` blocks, none of which is the one that is changed.
            unsafe { bindings::xor_gen(all[p], some.as_mut_ptr(), count, BYTES as u32) };
        }
        Ok(())
    }

    /// Makes P and Q by the kernel's function, which takes the blocks of all slots, and P and Q behind them: of members
    /// that have their slots in order, with zeros where parity is; behind all data they change nothing.
    fn p_and_q_by_the_kernel(blocks: &mut [Block], roles: Roles) -> Result {
        let q = roles.q().ok_or(EINVAL)?;
        let all = pointers(blocks)?;
        let zeros = ZEROS.as_ptr().cast::<c_void>().cast_mut();
        let mut list = KVec::with_capacity(all.len() + 2, GFP_KERNEL)?;
        for (member, block) in all.iter().enumerate() {
            let is_data = roles.is_data(member);
            list.push(if is_data { *block } else { zeros }, GFP_KERNEL)?;
        }
        while list.last() == Some(&zeros) {
            list.pop();
        }
        for member in [roles.p(), q] {
            list.push(all[usize::from(member)], GFP_KERNEL)?;
        }
        let count = list.len() as i32;
        // SAFETY: The pointers are those of `count` blocks, of which the last two are changed, and are there once; the
        // others, one of zeros perhaps among them, are only read.
        unsafe { bindings::raid6_gen_syndrome(count, BYTES, list.as_mut_ptr()) };
        Ok(())
    }

    /// Parity of a strip by the kernel, and by each engine, whose check finds it right, is that of the scalar one.
    fn strip_is_the_same_everywhere(noise: &mut Noise, roles: Roles) -> Result {
        let mut right = strip(noise, roles.members(), roles)?;
        let mut spoiled = copy(&right)?;
        for member in [Some(roles.p()), roles.q()].into_iter().flatten() {
            noise.fill(&mut spoiled[usize::from(member)]);
        }
        let expect_right = |made: &[Block], who: &str| {
            expect(
                made[..] == right[..],
                format_args!("{who}: parity of {roles:?}"),
            )
        };
        let mut made = copy(&spoiled)?;
        if roles.q().is_some() {
            p_and_q_by_the_kernel(&mut made, roles)?;
            expect_right(&made, "raid6_gen_syndrome")?;
        }
        p_by_the_kernel(&mut made, roles)?;
        expect_right(&made, "xor_gen")?;
        for engine in others() {
            // Past the caches or not, the outcome is the same. The widest ones take their time.
            for past in [false, true] {
                if past && !FAST && roles.members() > 35 {
                    continue;
                }
                let mut made = copy(&spoiled)?;
                let mut work = Blocks::over(&mut made, engine, roles).past_caches(past);
                work.generate(BOTH);
                expect_right(&made, engine.name())?;
            }
        }
        for engine in others() {
            let found = Blocks::over(&mut right, engine, roles).check(BOTH);
            expect(
                found == Wrong::default(),
                format_args!("{}: check of {roles:?}: {found:?}", engine.name()),
            )?;
        }
        Ok(())
    }

    #[test]
    fn strips_are_what_the_kernel_makes_of_them() -> Result {
        let mut noise = Noise(4);
        for roles in Iterator::chain(widths().map(roles), other_roles()) {
            strip_is_the_same_everywhere(&mut noise, roles)?;
        }
        Ok(())
    }

    /// Where parity is elsewhere than the kernel's library has it, blocks are lost, too: the first and the last data
    /// member, and with Q both of them.
    #[test]
    fn lost_blocks_of_other_roles_are_recovered() -> Result {
        let mut noise = Noise(10);
        for roles in other_roles() {
            let right = strip(&mut noise, roles.members(), roles)?;
            let mut data = (0..roles.members()).filter(|member| !roles.is_parity(*member));
            let first = data.next().ok_or(EINVAL)?;
            let last = data.next_back().unwrap_or(first);
            for engine in engine::usable() {
                lose(&mut noise, engine, roles, &right, &[last])?;
                if roles.q().is_some() {
                    lose(&mut noise, engine, roles, &right, &[first, last])?;
                    lose(&mut noise, engine, roles, &right, &[first, roles.p()])?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn changes_are_what_the_kernel_makes_of_them() -> Result {
        // SAFETY: The function has no requirements.
        let can = unsafe { bindings::raid6_can_xor_syndrome() };
        let mut noise = Noise(5);
        for members in widths().filter(|_| can) {
            let roles = roles(members);
            let before = strip(&mut noise, members, roles)?;
            let member = noise.below(members - 2);
            let new = noise.lines(BLOCK_LINES)?;

            let mut right = copy(&before)?;
            let (slot, count) = (i32::from(member), i32::from(members));
            for step in 0..2 {
                let mut addresses = pointers(&mut right)?;
                // SAFETY: The pointers are those of `members` blocks, of which the last two are changed.
                unsafe {
                    bindings::raid6_xor_syndrome(count, slot, slot, BYTES, addresses.as_mut_ptr())
                };
                if step == 0 {
                    right[usize::from(member)].copy_from_slice(&new);
                }
            }
            for engine in engine::usable() {
                let mut made = copy(&before)?;
                let mut blocks = Blocks::over(&mut made, engine, roles);
                // In two parts that are no whole lines.
                let new = source(&new, 0);
                let parts = new.get(0..1001).zip(new.get(1001..BYTES)).ok_or(EINVAL)?;
                blocks.change(member, 0, parts.0, BOTH);
                blocks.change(member, 1001, parts.1, BOTH);
                expect(
                    made[..] == right[..],
                    format_args!("{}: member {member} of {members}", engine.name()),
                )?;
            }
        }
        Ok(())
    }

    /// Loses blocks, and gets them back.
    fn lose(
        noise: &mut Noise,
        engine: &dyn Engine,
        roles: Roles,
        right: &[Block],
        lost: &[u16],
    ) -> Result {
        let mut blocks = copy(right)?;
        for member in lost {
            noise.fill(&mut blocks[usize::from(*member)]);
        }
        Blocks::over(&mut blocks, engine, roles).recover(lost, None);
        expect(
            blocks[..] == right[..],
            format_args!("{}: {lost:?} of {roles:?}", engine.name()),
        )
    }

    #[test]
    fn every_pair_of_lost_blocks_is_recovered() -> Result {
        let mut noise = Noise(6);
        for members in 4..=20 {
            if !FAST && !matches!(members, 4 | 5 | 9) {
                continue;
            }
            let roles = roles(members);
            let right = strip(&mut noise, members, roles)?;
            for engine in engine::usable() {
                for x in 0..members {
                    lose(&mut noise, engine, roles, &right, &[x])?;
                    for y in 0..x {
                        lose(&mut noise, engine, roles, &right, &[x, y])?;
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn random_pairs_of_wide_arrays_are_recovered_as_the_kernel_does() -> Result {
        let mut noise = Noise(7);
        for members in widths() {
            let roles = roles(members);
            let right = strip(&mut noise, members, roles)?;
            let count = i32::from(members);
            for _ in 0..if FAST { 5 } else { 1 } {
                let y = 1 + noise.below(members - 3);
                let x = noise.below(y);
                let mut made = copy(&right)?;
                noise.fill(&mut made[usize::from(x)]);
                noise.fill(&mut made[usize::from(y)]);
                let mut addresses = pointers(&mut made)?;
                let (a, b) = (i32::from(x), i32::from(y));
                // SAFETY: The pointers are those of `members` blocks, of which x and y are changed.
                unsafe { bindings::raid6_recov_2data(count, BYTES, a, b, addresses.as_mut_ptr()) };
                expect(
                    made[..] == right[..],
                    format_args!("raid6_recov_2data of {x} and {y} of {members}"),
                )?;

                noise.fill(&mut made[usize::from(x)]);
                noise.fill(&mut made[usize::from(members - 2)]);
                let mut addresses = pointers(&mut made)?;
                // SAFETY: As above; x and P are changed.
                unsafe { bindings::raid6_recov_datap(count, BYTES, a, addresses.as_mut_ptr()) };
                expect(
                    made[..] == right[..],
                    format_args!("raid6_recov_datap of {x} of {members}"),
                )?;

                for engine in engine::usable() {
                    lose(&mut noise, engine, roles, &right, &[x, y])?;
                    lose(&mut noise, engine, roles, &right, &[members - 2, x])?;
                    lose(&mut noise, engine, roles, &right, &[y, members - 1])?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn one_wrong_block_is_located() -> Result {
        let mut noise = Noise(8);
        let roles = roles(9);
        let mut blocks = strip(&mut noise, 9, roles)?;
        for engine in engine::usable() {
            for member in 0..9 {
                let mut strip = Blocks::over(&mut blocks, engine, roles);
                assert!(strip.locate() == Located::Nothing);
                strip.pages[usize::from(member)][33].0[5] ^= 1 << member;
                assert!(strip.locate() == Located::Member(member));
                strip.mend(member);
                assert!(strip.check(BOTH) == Wrong::default());
            }
        }
        Ok(())
    }

    /// The pages of a kit, which is what the driver has.
    #[test]
    fn strip_of_a_kit_is_written_and_recovered() -> Result {
        const MEMBERS: u16 = 11;
        let roles = Roles::new(MEMBERS, 4, Some(5), Slots::AfterQ);
        let mut noise = Noise(9);
        let right = strip(&mut noise, MEMBERS, roles)?;
        for engine in engine::usable() {
            let mut kit = Kit::new(MEMBERS, &setup())?;
            let is_right = |kit: &mut Kit| {
                let mut pages = kit.pages_mut().iter().zip(&right);
                pages.all(|(page, right)| page.block() == Some(right))
            };
            for past in [false, true] {
                for page in kit.pages_mut() {
                    noise.fill(page.block_mut().ok_or(EBUSY)?);
                }
                let blocks = Blocks::over(kit.pages_mut(), engine, roles);
                blocks.past_caches(past).generate_copying(BOTH, |member| {
                    Some(source(right.get(usize::from(member))?, 0))
                });
                assert!(is_right(&mut kit));
            }
            for lost in [[0, 4], [5, 10], [4, 5], [3, 6]] {
                for member in lost {
                    let page = kit.page_mut(member).ok_or(EINVAL)?;
                    noise.fill(page.block_mut().ok_or(EBUSY)?);
                }
                Blocks::over(kit.pages_mut(), engine, roles).recover(&lost, None);
                assert!(is_right(&mut kit));
            }
        }
        Ok(())
    }

    #[test]
    fn one_engine_is_chosen_and_others_are_refused() {
        let selected = engine::selected().name();
        assert!(engine::usable().any(|engine| engine.name() == selected));
        for engine in engine::usable() {
            assert!(engine::find(engine.name()).is_ok_and(|found| found.name() == engine.name()));
        }
        assert!(engine::find("nonsense").is_err_and(|err| err == EINVAL));
        assert!(engine::find("").is_err_and(|err| err == EINVAL));
    }
}
