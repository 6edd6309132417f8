// SPDX-License-Identifier: GPL-2.0

//! Jobs on DMA engines: copies and parity that the CPU need not make.
//!
//! A job is handed over strip by strip, and each strip goes on for itself. What it does is a [`recipe`]: first the written
//! data is copied into spare pages, then each block of parity, or each lost one, is made there, by as many operations as the
//! channel's limits ask for: its [`course`]. Operations that need nothing of each other are a [`stage`]; the next one begins
//! when it has ended, which its owner hears of in any context. A [`channel`] is where operations are handed to dmaengine, many
//! of them in a [`batch`].
//!
//! Who does jobs is a [`backend`]: this CPU, or engines. In the mode auto engines do what is [`worth`] it. A channel whose [`health`]
//! is bad gets nothing.
//!
//! Nothing waits, and nothing that an engine writes to is used before it has ended. What has failed, or is late, the CPU does
//! from the beginning, for the strip is still as it was.
//!
//! Documentation/offload.md has the phases of a job.

pub(crate) mod backend;
pub(crate) mod batch;
pub(crate) mod channel;
pub(crate) mod course;
pub(crate) mod health;
mod kunit;
pub(crate) mod measure;
pub(crate) mod recipe;
pub(crate) mod stage;
mod worth;
