// SPDX-License-Identifier: GPL-2.0

//! Where jobs go.

use crate::raid::column::Column;
use crate::raid::job::{Env, Job, Outcome};
use crate::raid::strips::Strips;

/// Who does the jobs of spans: this CPU, or DMA engines.
pub(crate) trait Backend<E: Env> {
    /// Does a job on `strips`, whose blocks have no I/O in flight; or begins with it, and is heard of later, strip by strip
    /// ([`Span::job_done`](crate::raid::span::Span::job_done)). Whoever cannot begin with all of it has somebody else do it.
    ///
    /// Task context with interrupts on; does not sleep, nor wait.
    fn submit(
        &self,
        env: &mut E,
        job: Job,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut E::Parts,
    ) -> Outcome;
}
