// SPDX-License-Identifier: GPL-2.0

//! Runs seeds of the simulator: one with its trace, or many on several threads.

use raid456_host::sim::{self, Failure, Scenario, Shortage};
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

const HELP: &str = "\
Runs the simulator of raid456's logic.

  sim --seed N [--trace] [--last LINES]   one seed, with what happened; the last lines of it only
  sim [--seeds FROM..TO] [--threads T]    many seeds (0..10000 on all CPUs unless told otherwise), until one fails
      [--keep-going]                      all of them, and tell each failure
      [--quiet]                           no table of what happened how often
      [--small]                           few requests to small arrays
      [--chance N]                        N of 1000 who ask for memory get none
      [--fail N,N...]                     those with these numbers get none, counted from 0
";

struct Options {
    seeds: Range<u64>,
    threads: usize,
    trace: bool,
    last: usize,
    keep_going: bool,
    quiet: bool,
    small: bool,
    shortage: Shortage,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut options = Options {
        seeds: 0..10_000,
        threads,
        trace: false,
        last: usize::MAX,
        keep_going: false,
        quiet: false,
        small: false,
        shortage: Shortage::Never,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match arg.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                options.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or("--seeds wants FROM..TO")?;
                options.seeds = number(from)?..number(to)?;
            }
            "--threads" => options.threads = usize::try_from(number(&value()?)?).unwrap_or(1),
            "--last" => options.last = usize::try_from(number(&value()?)?).unwrap_or(usize::MAX),
            "--trace" => options.trace = true,
            "--keep-going" => options.keep_going = true,
            "--quiet" => options.quiet = true,
            "--small" => options.small = true,
            "--chance" => {
                let chance = number(&value()?)?;
                options.shortage = Shortage::Chance(u32::try_from(chance).unwrap_or(1000));
            }
            "--fail" => {
                let points: Result<_, _> = value()?.split(',').map(number).collect();
                options.shortage = Shortage::At(points?);
            }
            "--help" | "-h" => return Err(HELP.into()),
            other => return Err(format!("{other} is not known\n\n{HELP}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    // A panic is a failure of its seed, and is told as such.
    std::panic::set_hook(Box::new(|_| {}));
    let scenario = |seed| Scenario {
        seed,
        small: options.small,
        shortage: options.shortage.clone(),
    };
    if options.trace {
        let outcome = sim::run_scenario(&scenario(options.seeds.start), true);
        let skip = outcome.trace.len().saturating_sub(options.last);
        for line in &outcome.trace[skip..] {
            println!("{line}");
        }
        return match outcome.failure {
            Some(failure) => {
                println!("{failure}");
                ExitCode::FAILURE
            }
            None => ExitCode::SUCCESS,
        };
    }
    let begun = Instant::now();
    let told = |failure: &Failure| eprintln!("{failure}\n");
    let (failures, summary) = sim::run_many(
        options.seeds.clone(),
        scenario,
        options.threads,
        options.keep_going,
        told,
    );
    if !options.quiet {
        print!("{summary}");
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s, {failures} failed",
        summary.seeds
    );
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
