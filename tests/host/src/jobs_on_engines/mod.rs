// SPDX-License-Identifier: GPL-2.0

//! Jobs on DMA engines: what they are made of, by which operations, when they are worth it, and which channels are given up.

mod courses;
mod health;
mod recipes;
mod worth;
