// SPDX-License-Identifier: GPL-2.0

//! Jobs on DMA engines: what they are made of, by which operations, and when they are worth it.

mod courses;
mod recipes;
mod worth;
