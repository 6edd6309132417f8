// SPDX-License-Identifier: GPL-2.0

//! What is timed: the operations, the blocks that each works on, and what must come out.

use crate::memory::Random;
use crate::parity::{Line, BLOCK_LINES};
use crate::strip::Strip;

/// An operation on one strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A full strip of level 5: users' blocks into pages, and P.
    CopyP,
    /// A full strip of level 6: users' blocks into pages, P and Q.
    CopyPq,
    /// P of the pages.
    GenP,
    /// P and Q of the pages.
    GenPq,
    /// One user's block into its page, and P changed by it.
    DeltaP,
    /// One user's block into its page, and P and Q changed by it.
    DeltaPq,
    /// A lost data block, by P.
    DataByP,
    /// A lost data block by Q, where P is missing, and is not wanted.
    DataByQ,
    /// A lost data block and lost P, by Q.
    DataAndPByQ,
    /// Two lost data blocks, by P and Q.
    TwoData,
    /// Whether P matches.
    CheckP,
    /// Whether P and Q match.
    CheckPq,
}

impl Operation {
    /// All, in the order of the report. The last two need the memory to be zero.
    pub(crate) const ALL: [Self; 12] = [
        Self::CopyP,
        Self::CopyPq,
        Self::GenP,
        Self::GenPq,
        Self::DeltaP,
        Self::DeltaPq,
        Self::DataByP,
        Self::DataByQ,
        Self::DataAndPByQ,
        Self::TwoData,
        Self::CheckP,
        Self::CheckPq,
    ];

    /// The name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CopyP => "copy+p",
            Self::CopyPq => "copy+pq",
            Self::GenP => "gen-p",
            Self::GenPq => "gen-pq",
            Self::DeltaP => "delta-p",
            Self::DeltaPq => "delta-pq",
            Self::DataByP => "recover-d-by-p",
            Self::DataByQ => "recover-d-by-q",
            Self::DataAndPByQ => "recover-dp-by-q",
            Self::TwoData => "recover-dd",
            Self::CheckP => "check-p",
            Self::CheckPq => "check-pq",
        }
    }

    /// Whether users' blocks are copied.
    pub(crate) fn copies(self) -> bool {
        matches!(
            self,
            Self::CopyP | Self::CopyPq | Self::DeltaP | Self::DeltaPq
        )
    }

    /// Whether one data block only is worked on.
    pub(crate) fn is_delta(self) -> bool {
        matches!(self, Self::DeltaP | Self::DeltaPq)
    }

    /// Whether Q is among the blocks.
    pub(crate) fn has_q(self) -> bool {
        matches!(
            self,
            Self::CopyPq
                | Self::GenPq
                | Self::DeltaPq
                | Self::DataByQ
                | Self::DataAndPByQ
                | Self::TwoData
                | Self::CheckPq
        )
    }

    /// Whether it only reads, and says whether parity matches.
    pub(crate) fn is_check(self) -> bool {
        matches!(self, Self::CheckP | Self::CheckPq)
    }

    /// Blocks that one strip of `data` data blocks takes: pages of data, users' blocks, parity.
    pub(crate) fn shape(self, data: usize) -> [usize; 3] {
        let pages = if self.is_delta() { 1 } else { data };
        let users = if self.copies() { pages } else { 0 };
        [pages, users, 1 + usize::from(self.has_q())]
    }

    /// Blocks of memory that the operation touches.
    pub(crate) fn blocks(self, data: usize) -> usize {
        self.shape(data).iter().sum()
    }

    /// Blocks that it has to read and blocks that it has to write, at the least, taken together.
    pub(crate) fn traffic(self, data: usize) -> usize {
        let parity = 1 + usize::from(self.has_q());
        match self {
            Self::CopyP | Self::CopyPq => 2 * data + parity,
            // Old and new data and parity are read, the page and parity written.
            Self::DeltaP | Self::DeltaPq => 3 + 2 * parity,
            // P is left alone.
            Self::DataByQ => data + 1,
            // Each block is either read or written.
            _ => data + parity,
        }
    }

    /// Blocks whose content the user has asked for or given: what the figures in GB/s count.
    pub(crate) fn payload(self, data: usize) -> usize {
        match self {
            Self::DeltaP | Self::DeltaPq => 1,
            _ => data,
        }
    }
}

/// Eight products by 2 in the field of polynomial 0x11d.
fn double(word: u64) -> u64 {
    let high = word & 0x8080_8080_8080_8080;
    ((word ^ high) << 1) ^ ((high >> 7) * 0x1d)
}

/// A block of Q's share: the words times 2 to the power of `slot`.
fn share(words: &[u64], slot: usize) -> Vec<u64> {
    words
        .iter()
        .map(|word| (0..slot).fold(*word, |word, _| double(word)))
        .collect()
}

fn add(to: &mut [u64], words: &[u64]) {
    to.iter_mut().zip(words).for_each(|(to, word)| *to ^= word);
}

/// P and Q of blocks, slot 0 first, in the plainest way.
fn syndromes<'a>(blocks: impl Iterator<Item = &'a [u64]>, words: usize) -> [Vec<u64>; 2] {
    let mut sums = [vec![0; words], vec![0; words]];
    for (slot, block) in blocks.enumerate() {
        add(&mut sums[0], block);
        add(&mut sums[1], &share(block, slot));
    }
    sums
}

/// What a lost or not yet made block holds.
const LOST: Line = Line([0x5555; 8]);

fn flat(block: &[Line]) -> Vec<u64> {
    block.iter().flat_map(|line| line.0).collect()
}

fn store(block: &mut [Line], words: &[u64]) {
    let to = block.iter_mut().flat_map(|line| line.0.iter_mut());
    to.zip(words).for_each(|(to, word)| *to = *word);
}

/// Fills a strip with words for which the operation has to give what is returned: pages, P and perhaps Q.
fn prepare(op: Operation, strip: &mut Strip<'_>, turn: usize) -> Vec<Vec<u64>> {
    let (slot, two, p) = (
        strip.slot(turn),
        strip.two_slots(turn),
        op.shape(strip.data)[0],
    );
    let [mut blocks, mut users] = strip.blocks();
    let mut random = Random(0x1234_5678 + turn as u64);
    for word in blocks
        .iter_mut()
        .chain(&mut users)
        .flat_map(|block| block.iter_mut())
        .flat_map(|line| line.0.iter_mut())
    {
        *word = random.next();
    }
    let users: Vec<_> = users.iter().map(|block| flat(block)).collect();
    let mut expected: Vec<_> = blocks.iter().map(|block| flat(block)).collect();
    if op.is_delta() {
        let mut change = expected[0].clone();
        add(&mut change, &users[0]);
        expected[0].clone_from(&users[0]);
        for (parity, change) in expected[1..]
            .iter_mut()
            .zip([change.clone(), share(&change, slot)])
        {
            add(parity, &change);
        }
        return expected;
    }
    if op.copies() {
        expected[..p].clone_from_slice(&users);
    }
    let sums = syndromes(
        expected[..p].iter().map(|block| &block[..]),
        expected[p].len(),
    );
    expected[p..]
        .iter_mut()
        .zip(sums)
        .for_each(|(parity, sum)| *parity = sum);
    let lost = match op {
        Operation::GenP => vec![p],
        Operation::GenPq => vec![p, p + 1],
        // Where P is missing it is right all the same: lib/raid cannot but make it, and ours leaves it alone.
        Operation::DataByP | Operation::DataByQ => vec![slot],
        Operation::DataAndPByQ => vec![slot, p],
        Operation::TwoData => vec![two.0, two.1],
        _ => Vec::new(),
    };
    if !op.copies() {
        blocks
            .iter_mut()
            .zip(&expected)
            .for_each(|(block, words)| store(block, words));
        lost.iter().for_each(|lost| blocks[*lost].fill(LOST));
    }
    expected
}

/// Runs `work` on a strip once, and says what is wrong with the outcome, if anything is.
pub(crate) fn verify(
    op: Operation,
    strip: &mut Strip<'_>,
    turn: usize,
    mut work: impl FnMut(&mut Strip<'_>) -> bool,
) -> Result<(), String> {
    let expected = prepare(op, strip, turn);
    let parity = op.shape(strip.data)[0];
    let said = work(strip);
    if op.is_check() {
        if !said {
            return Err("parity matches, and it says that it does not".into());
        }
        // The C driver's check destroys P.
        prepare(op, strip, turn);
        let wrong = (turn * 2 + 1) % expected.len();
        let [mut blocks, _] = strip.blocks();
        blocks[wrong][turn % BLOCK_LINES].0[5] ^= 1 << 17;
        if work(strip) {
            return Err(format!(
                "one bit of block {wrong} is wrong, and it says that parity matches"
            ));
        }
        return Ok(());
    }
    let [blocks, _] = strip.blocks();
    for (at, (block, expected)) in blocks.iter().zip(&expected).enumerate() {
        let came = flat(block);
        if let Some(word) = (0..expected.len()).find(|word| came[*word] != expected[*word]) {
            let name = match at.checked_sub(parity) {
                None => format!("data block {at}"),
                Some(0) => "P".into(),
                Some(_) => "Q".into(),
            };
            return Err(format!(
                "{name}, word {word}: expected {:016x}, got {:016x}",
                expected[word], came[word]
            ));
        }
    }
    Ok(())
}
