// SPDX-License-Identifier: GPL-2.0

//! Tests in the kernel of what jobs on engines are made of, but for the engines: tests/guest/offload.py has some.

#[kernel::macros::kunit_tests(raid456_offload)]
mod tests {
    use crate::offload::channel::{self, Engines};
    use crate::offload::course::{
        go_on, next_chunk, Course, Kind, Limits, Progress, Standing, Sum, Sums, Verdict, Why,
    };
    use crate::offload::health::Outcome;
    use crate::offload::recipe::Target;
    use crate::offload::stage::{self, Owner, Stage};
    use crate::raid::job::{Job, Method};
    use core::sync::atomic::{AtomicU32, Ordering};
    use kernel::prelude::*;
    use kernel::sync::Arc;

    /// Counts how often it is told.
    struct Told(Arc<AtomicU32>);

    impl Owner for Told {
        fn ended(self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What becomes of an operation: it ends well or not, is not taken, does not end, or there is no channel for it.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Ends(bool),
        Refused,
        Hangs,
        NoChannel,
    }

    fn told_stage() -> Result<(Arc<Stage<Told>>, Arc<AtomicU32>)> {
        let told = Arc::new(AtomicU32::new(0), GFP_KERNEL)?;
        Ok((Stage::new(Told(told.clone()))?, told))
    }

    fn count(told: &AtomicU32) -> u32 {
        told.load(Ordering::Relaxed)
    }

    #[test]
    fn owner_is_told_once_when_the_last_operation_has_ended() -> Result {
        // Whether it is closed before, between, or after the ends of two operations.
        for closed_after in 0..3 {
            let (stage, told) = told_stage()?;
            stage.begin(1);
            stage.begin(1);
            for ended in 0..3 {
                if ended == closed_after {
                    stage.close();
                }
                if ended < 2 {
                    assert_eq!(count(&told), 0);
                    assert!(!stage.has_ended());
                    stage.op_ended(1, true, (false, false));
                }
            }
            assert_eq!(count(&told), 1);
            assert!(stage.has_ended() && !stage.has_failed() && !stage.differs());
        }
        Ok(())
    }

    #[test]
    fn stage_without_operations_ends_when_it_is_closed() -> Result {
        let (stage, told) = told_stage()?;
        stage.begin(7);
        // Its channel does not take it.
        stage.unbegin(7, true);
        assert_eq!(count(&told), 0);
        stage.close();
        assert_eq!(count(&told), 1);
        assert!(stage.has_failed());
        assert_eq!(stage.stand(false), Standing::Failed);
        assert!(stage.outcomes().eq([(7, Outcome::Refused)]));
        Ok(())
    }

    #[test]
    fn channel_does_not_answer_for_memory_that_there_is_none_of() -> Result {
        // Beside another operation of the same channel: none, one that ends well or not, one that is not taken.
        for (other, outcome) in [
            (None, None),
            (Some(Fate::Ends(true)), None),
            (Some(Fate::Ends(false)), Some(Outcome::Failed)),
            (Some(Fate::Refused), Some(Outcome::Refused)),
        ] {
            let (stage, told) = told_stage()?;
            stage.begin(7);
            stage.unbegin(7, false);
            if let Some(fate) = other {
                stage.begin(7);
                match fate {
                    Fate::Ends(ok) => stage.op_ended(7, ok, (false, false)),
                    _ => stage.unbegin(7, true),
                }
            }
            stage.close();
            assert_eq!(count(&told), 1);
            // The job is the CPU's all the same.
            assert_eq!(stage.stand(false), Standing::Failed);
            assert!(stage.outcomes().eq(outcome.map(|outcome| (7, outcome))));
        }
        Ok(())
    }

    #[test]
    fn failures_and_differences_are_kept() -> Result {
        let (stage, _told) = told_stage()?;
        for channel in [3, 4, 3] {
            stage.begin(channel);
        }
        stage.close();
        stage.op_ended(3, true, (false, true));
        stage.op_ended(4, false, (false, false));
        stage.op_ended(3, true, (false, false));
        assert!(stage.has_failed() && stage.differs());
        Ok(())
    }

    #[test]
    fn channel_answers_for_what_it_has_done_and_no_other() -> Result {
        let all = [
            (Fate::Ends(true), Outcome::Well),
            (Fate::Ends(false), Outcome::Failed),
            (Fate::Refused, Outcome::Refused),
            (Fate::Hangs, Outcome::Late),
        ];
        for (one, of_one) in all {
            for (other, of_other) in all {
                let (stage, _told) = told_stage()?;
                let both = [(3, one), (4, other)];
                for (channel, fate) in both {
                    // Beside one that goes well.
                    stage.begin(channel);
                    stage.begin(channel);
                    if fate == Fate::Refused {
                        stage.unbegin(channel, true);
                    }
                }
                stage.close();
                for (channel, fate) in both.into_iter().rev() {
                    stage.op_ended(channel, true, (false, false));
                    if let Fate::Ends(ok) = fate {
                        stage.op_ended(channel, ok, (false, false));
                    }
                }
                let standing = match (one, other) {
                    (Fate::Hangs, _) | (_, Fate::Hangs) => Standing::Late,
                    (Fate::Ends(true), Fate::Ends(true)) => Standing::Well,
                    _ => Standing::Failed,
                };
                assert_eq!(stage.stand(true), standing);
                assert!(stage.outcomes().eq([(3, of_one), (4, of_other)]));
                for (channel, _) in both.into_iter().filter(|(_, fate)| *fate == Fate::Hangs) {
                    stage.op_ended(channel, true, (false, false));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn abandoned_stage_tells_nobody_and_counts_until_it_ends() -> Result {
        let before = stage::abandoned();
        let (stage, told) = told_stage()?;
        stage.begin(1);
        stage.close();
        assert!(stage.abandon());
        assert_eq!(stage::abandoned(), before + 1);
        stage.op_ended(1, true, (false, false));
        assert_eq!(count(&told), 0);
        assert_eq!(stage::abandoned(), before);
        Ok(())
    }

    #[test]
    fn stage_that_has_ended_cannot_be_abandoned() -> Result {
        let (stage, told) = told_stage()?;
        stage.begin(1);
        stage.close();
        stage.op_ended(1, true, (false, false));
        assert!(!stage.abandon());
        assert_eq!(count(&told), 1);
        Ok(())
    }

    #[test]
    fn job_goes_on_is_redone_or_waits_as_its_stage_stands() -> Result {
        // How its two operations end, and what comes of it.
        let well = (true, (false, false));
        for (second, expected) in [
            (well, Standing::Well),
            ((false, (false, false)), Standing::Failed),
            ((true, (true, false)), Standing::Differs),
            ((true, (false, true)), Standing::Differs),
            ((false, (true, true)), Standing::Failed),
        ] {
            let (stage, _told) = told_stage()?;
            for (ok, wrong) in [well, second] {
                stage.begin(1);
                assert_eq!(stage.stand(false), Standing::Pending);
                stage.op_ended(1, ok, wrong);
            }
            stage.close();
            // What has ended is not late.
            assert_eq!(stage.stand(true), expected);
        }
        let (stage, told) = told_stage()?;
        stage.begin(1);
        stage.close();
        assert_eq!(stage.stand(false), Standing::Pending);
        assert_eq!(stage.stand(true), Standing::Late);
        stage.op_ended(1, true, (false, false));
        assert_eq!(count(&told), 0);
        Ok(())
    }

    /// A channel that reads three blocks at once.
    struct Three;

    impl Limits for Three {
        fn most_sources(&self, _kind: Kind, _sums: Sums) -> usize {
            3
        }

        fn takes_pages(&self, _kind: Kind) -> bool {
            true
        }
    }

    #[test]
    fn job_goes_from_stage_to_stage_and_is_done_again_where_one_is_not_well() -> Result {
        let sum = |p, q, terms| Sum::new(Job::Write(Method::Rmw), Target { p, q }, terms);
        let before = stage::abandoned();
        for (fate, verdict) in [
            (Fate::Ends(true), Verdict::Done),
            (Fate::Ends(false), Verdict::Again(Why::Failed)),
            (Fate::Refused, Verdict::Again(Why::Failed)),
            (Fate::NoChannel, Verdict::Again(Why::Failed)),
            (Fate::Hangs, Verdict::Again(Why::Late)),
        ] {
            // In which stage an operation for the first sum has this fate: that is the one which ends last there.
            for place in 0..3 {
                // Three operations one after the other, beside two.
                let mut course = Course::new();
                course.set(0, sum(Some(0), None, 7));
                course.set(1, sum(None, Some(1), 5));
                let mut sizes = [0; 4];
                let mut last: Option<(Arc<Stage<Told>>, Arc<AtomicU32>)> = None;
                let mut number = 0;
                let found = loop {
                    // As a runner that looks at it, and finds late whatever has not ended.
                    let standing = match &last {
                        Some((stage, _)) => stage.stand(true),
                        None => Standing::Well,
                    };
                    let Some(size) = sizes.get_mut(number) else {
                        return Err(E2BIG);
                    };
                    let is_here = number == place;
                    let next = go_on(standing, || {
                        if course.is_done() {
                            return Progress::Done;
                        }
                        let Ok((stage, told)) = told_stage() else {
                            return Progress::Failed;
                        };
                        stage.begin_next(&mut course, |which, sum| {
                            let bad = is_here && which == 0;
                            if bad && fate == Fate::NoChannel {
                                return None;
                            }
                            stage.begin(1);
                            if bad && fate == Fate::Refused {
                                stage.unbegin(1, true);
                                return None;
                            }
                            *size += 1;
                            sum.next(&Three)
                        });
                        last = Some((stage, told));
                        Progress::Pending
                    });
                    let (Verdict::Pending, Some((stage, told))) = (next, &last) else {
                        break next;
                    };
                    for left in (0..*size).rev() {
                        // While something is under way nothing else begins, and nobody is told.
                        let meanwhile = go_on(stage.stand(false), || Progress::Failed);
                        assert_eq!((meanwhile, count(told)), (Verdict::Pending, 0));
                        match fate {
                            Fate::Hangs if is_here && left == 0 => {}
                            Fate::Ends(ok) if is_here && left == 0 => {
                                stage.op_ended(1, ok, (false, false));
                            }
                            _ => stage.op_ended(1, true, (false, false)),
                        }
                    }
                    let hangs = is_here && fate == Fate::Hangs;
                    assert_eq!(count(told), u32::from(!hangs));
                    number += 1;
                };
                assert_eq!(found, verdict);
                // What comes behind is not begun.
                let expected = match (fate, place) {
                    (Fate::Ends(true), _) => [2, 2, 1, 0],
                    (Fate::Refused | Fate::NoChannel, 0) => [1, 0, 0, 0],
                    (Fate::Refused | Fate::NoChannel, 1) => [2, 1, 0, 0],
                    (Fate::Refused | Fate::NoChannel, _) => [2, 2, 0, 0],
                    (_, 0) => [2, 0, 0, 0],
                    (_, 1) => [2, 2, 0, 0],
                    (_, _) => [2, 2, 1, 0],
                };
                assert_eq!(sizes, expected);
                if fate == Fate::Hangs {
                    // Its pages are kept until it ends after all, which nobody hears of.
                    assert_eq!(stage::abandoned(), before + 1);
                    let Some((stage, told)) = last else {
                        return Err(EINVAL);
                    };
                    stage.op_ended(1, true, (false, false));
                    assert_eq!(count(&told), 0);
                }
                assert_eq!(stage::abandoned(), before);
            }
        }
        Ok(())
    }

    #[test]
    fn parity_that_an_engine_calls_wrong_is_compared_again() -> Result {
        let mut course = Course::new();
        let target = Target {
            p: Some(0),
            q: Some(1),
        };
        course.set(0, Sum::new(Job::Check, target, 3));
        for (wrong, verdict) in [
            ((false, false), Verdict::Done),
            ((true, false), Verdict::Again(Why::Differs)),
            ((false, true), Verdict::Again(Why::Differs)),
        ] {
            let mut course = course;
            let (stage, told) = told_stage()?;
            stage.begin_next(&mut course, |_, sum| {
                stage.begin(1);
                sum.next(&Three)
            });
            stage.op_ended(1, true, wrong);
            assert_eq!(count(&told), 1);
            assert!(course.is_done());
            assert_eq!(go_on(stage.stand(true), || Progress::Done), verdict);
        }
        Ok(())
    }

    #[test]
    fn sums_are_split_as_channels_can_do_them() {
        // Of 20 blocks 8 at once, then 7 and what is made already.
        let mut sizes = [0; 3];
        let mut done = 0;
        for size in &mut sizes {
            *size = next_chunk(20 - done, done != 0, 8, 7).unwrap_or(0);
            done += *size;
        }
        assert_eq!(sizes, [8, 7, 5]);
        assert_eq!(next_chunk(8, false, 8, 0), Some(8));
        // What cannot be gone on with is not begun.
        assert_eq!(next_chunk(9, false, 8, 0), None);
        assert_eq!(next_chunk(1, false, 0, 0), None);
    }

    #[test]
    fn kernel_says_whether_it_has_engines() {
        assert_eq!(channel::is_supported(), cfg!(CONFIG_DMA_ENGINE));
        if channel::is_supported() {
            return;
        }
        let engines = Engines::get();
        assert!(engines.find(Kind::Copy).is_none());
    }
}
