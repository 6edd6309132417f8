// SPDX-License-Identifier: GPL-2.0

//! Tests of `src/raid/geometry.rs`.

mod limits;
mod model;
mod parameters;
mod placement;
mod ranges;
