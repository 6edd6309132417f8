// SPDX-License-Identifier: GPL-2.0

//! Tests in the kernel: its own engine against the scalar one, which the host tests against a model.

#[kernel::macros::kunit_tests(raid456_parity)]
mod tests {
    use crate::mem::kit::Kit;
    use crate::mem::Wait;
    use crate::parity::blocks::Blocks;
    use crate::parity::kernel::Kernel;
    use crate::parity::scalar::Scalar;
    use crate::parity::{accumulate, cancels, generate, Block, Engine, Sector, BLOCK_SECTORS};
    use kernel::prelude::*;

    /// Most sources that are tried: more than two groups of them.
    const SOURCES: usize = 20;

    /// Blocks whose words are all different.
    fn blocks(seed: u64) -> Result<KVec<Block>> {
        let mut state = seed;
        let mut blocks = KVec::with_capacity(SOURCES, GFP_KERNEL)?;
        for _ in 0..SOURCES {
            let mut block = [Sector::ZERO; BLOCK_SECTORS];
            for word in block.iter_mut().flat_map(|sector| sector.0.iter_mut()) {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                *word = state ^ (state >> 29);
            }
            blocks.push(block, GFP_KERNEL)?;
        }
        Ok(blocks)
    }

    /// The number of sources and of sectors for which an engine makes something else than the scalar one.
    fn difference(
        work: impl Fn(&dyn Engine, &mut [Sector], &mut dyn Iterator<Item = &[Sector]>),
    ) -> Result<Option<(usize, usize)>> {
        let blocks = blocks(1)?;
        let mut kernel = KBox::new([Sector::ZERO; BLOCK_SECTORS], GFP_KERNEL)?;
        let mut scalar = KBox::new([Sector::ZERO; BLOCK_SECTORS], GFP_KERNEL)?;
        for count in 0..=SOURCES {
            for sectors in 1..=BLOCK_SECTORS {
                // What was there before must matter to one kind of work, and not to the other.
                kernel.fill(Sector([0x5555; 64]));
                scalar.fill(Sector([0x5555; 64]));
                let sources = |n: usize| blocks.iter().take(n).map(move |b| &b[..sectors]);
                work(&Kernel, &mut kernel[..sectors], &mut sources(count));
                work(&Scalar, &mut scalar[..sectors], &mut sources(count));
                if *kernel != *scalar {
                    return Ok(Some((count, sectors)));
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn kernel_generates_as_scalar_does() -> Result {
        let found = difference(|engine, dst, sources| generate(engine, dst, sources))?;
        assert_eq!(found, None);
        Ok(())
    }

    #[test]
    fn kernel_accumulates_as_scalar_does() -> Result {
        let found = difference(|engine, dst, sources| accumulate(engine, dst, sources))?;
        assert_eq!(found, None);
        Ok(())
    }

    #[test]
    fn kernel_sees_each_bit_that_does_not_cancel() -> Result {
        let mut strip = blocks(2)?;
        let (parity, data) = strip.split_first_mut().ok_or(EINVAL)?;
        generate(&Scalar, parity, data.iter().map(|block| &block[..]));
        assert!(cancels(&Kernel, strip.iter()));
        for sector in 0..BLOCK_SECTORS {
            for word in [0, 31, 63] {
                strip[3][sector].0[word] ^= 1 << (word % 7);
                let seen = !cancels(&Kernel, strip.iter());
                strip[3][sector].0[word] ^= 1 << (word % 7);
                assert!(seen);
            }
        }
        Ok(())
    }

    #[test]
    fn strip_of_a_kit_is_made_changed_checked_and_recovered() -> Result {
        const MEMBERS: u16 = 11;
        const PARITY: u16 = 4;
        let content = blocks(3)?;
        let mut kit = Kit::new(MEMBERS, Wait::Setup)?;
        for (page, block) in kit.pages_mut().iter_mut().zip(content.iter()) {
            *page.view_mut::<Block>().ok_or(EBUSY)? = *block;
        }
        assert!(!Blocks::new(&mut kit, &Kernel).match_parity());
        Blocks::new(&mut kit, &Kernel).generate(PARITY, |_| true);
        assert!(Blocks::new(&mut kit, &Kernel).match_parity());

        // A lost block, before parity, after it, and parity itself.
        for lost in [0, PARITY, MEMBERS - 1] {
            let page = kit.page_mut(lost).ok_or(EINVAL)?;
            let before = KBox::new(*page.view::<Block>().ok_or(EBUSY)?, GFP_KERNEL)?;
            page.view_mut::<Block>()
                .ok_or(EBUSY)?
                .fill(Sector([0x5555; 64]));
            assert!(!Blocks::new(&mut kit, &Kernel).match_parity());
            Blocks::new(&mut kit, &Kernel).generate(lost, |_| true);
            let recovered = kit.page(lost).and_then(|page| page.view::<Block>());
            assert!(recovered == Some(&*before));
        }

        // Two blocks change: parity by what they were, and what they are.
        let changed = |member| member == 2 || member == 9;
        Blocks::new(&mut kit, &Kernel).accumulate(PARITY, changed);
        for member in (0..MEMBERS).filter(|member| changed(*member)) {
            let page = kit.page_mut(member).ok_or(EINVAL)?;
            *page.view_mut::<Block>().ok_or(EBUSY)? = content[usize::from(member) + 8];
        }
        assert!(!Blocks::new(&mut kit, &Kernel).match_parity());
        Blocks::new(&mut kit, &Kernel).accumulate(PARITY, changed);
        assert!(Blocks::new(&mut kit, &Kernel).match_parity());
        Ok(())
    }
}
