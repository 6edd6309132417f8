// SPDX-License-Identifier: GPL-2.0

//! Times the module's parity engines against the kernel's lib/raid, in one run. `scripts/bench-parity` runs it.
//!
//! `raid456-bench LIBRARY [--rounds N] [--data N,N] [--bytes N,N] [--heat same,hot,cold] [--only TEXT] [--engine NAME,NAME]` prints
//! a line for each contender and round, and between them lines `# NAME=VALUE` about the machine and about how long vector registers
//! are kept. Every contender has to give the right result before it is timed.

// The driver is not here, and it uses more.
#![allow(dead_code)]

// No doc comment here: rustdoc would look up the links of the file's own ones in this place.
#[path = "../../src/parity/mod.rs"]
mod parity;

#[path = "../../src/raid/mod.rs"]
mod raid;

mod contenders;
mod libraid;
mod memory;
mod operation;
mod ours;
mod strip;
mod timing;

use contenders::{Contender, Kernel, Limit};
use libraid::{Libraid, Variant};
use memory::Memory;
use operation::{verify, Operation};
use parity::{Line, BLOCK_LINES, GROUP};
use std::process::ExitCode;
use std::time::Duration;
use strip::{Strip, MOST_DATA};

/// What the command line says.
struct Options {
    library: String,
    rounds: usize,
    data: Vec<usize>,
    bytes: Vec<usize>,
    heat: Vec<String>,
    only: String,
    engines: Vec<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let library = args.next().ok_or("the library's name is missing")?;
        let mut new = Self {
            library,
            rounds: 31,
            data: vec![4, 8, 16],
            bytes: vec![4096, 65536],
            heat: ["same", "hot", "cold"].map(String::from).to_vec(),
            only: String::new(),
            engines: Vec::new(),
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} wants a value"))?;
            let number = |text: &str| {
                text.parse::<usize>()
                    .map_err(|_| format!("{name}: {text} is no number"))
            };
            let numbers = || value.split(',').map(number).collect::<Result<Vec<_>, _>>();
            let words = || value.split(',').map(str::to_string).collect();
            match name.as_str() {
                "--rounds" => new.rounds = number(&value)?.max(1),
                "--data" => new.data = numbers()?,
                "--bytes" => new.bytes = numbers()?,
                "--heat" => new.heat = words(),
                "--only" => new.only = value,
                "--engine" => new.engines = words(),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        if new.data.iter().any(|data| !(2..=MOST_DATA).contains(data)) {
            return Err(format!("--data: from 2 to {MOST_DATA}"));
        }
        if new
            .bytes
            .iter()
            .any(|bytes| *bytes == 0 || bytes % 4096 != 0)
        {
            return Err("--bytes: a multiple of 4096".into());
        }
        Ok(new)
    }
}

/// The variant that the kernel would take at boot: the one whose gen is the fastest with eight disks and 4 KiB.
///
/// The kernel gives each one 64 ms, alone; here they take turns, and the median counts.
fn boot_choice(lib: Libraid, variants: &[Variant], memory: &mut Memory) -> Option<Variant> {
    const TURNS: usize = 15;
    let mut blocks = memory.all().chunks_exact_mut(BLOCK_LINES);
    let mut strip = Strip::take(Operation::GenPq, 6, &mut blocks)?;
    let mut times = vec![Vec::new(); variants.len()];
    for _ in 0..TURNS {
        for (variant, times) in variants.iter().zip(&mut times) {
            const COUNT: u32 = 5000;
            let began = timing::own_time();
            for _ in 0..COUNT {
                lib.gen(*variant, &mut strip.pointers(0..BLOCK_LINES));
            }
            times.push((timing::own_time() - began) / f64::from(COUNT));
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[TURNS / 2]
    };
    let medians = variants.iter().zip(times.into_iter().map(median));
    let medians = medians
        .inspect(|(variant, ns)| println!("# boot_{}={:.1}", variant.name, 6.0 * 4096.0 / ns));
    medians
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(variant, _)| *variant)
}

fn run(options: &Options) -> Result<(), String> {
    let lib = Libraid::load(&options.library)?;
    let variants = lib.variants();
    memory::stay_on_this_cpu();
    let l2 = memory::cache_bytes(2).unwrap_or(1 << 20);
    let l3 = memory::cache_bytes(3).unwrap_or(32 << 20);
    let cold_bytes = (4 * l3).max(1 << 30);
    let cold = options.heat.iter().any(|heat| heat == "cold");
    let mut memory = Memory::new(if cold {
        cold_bytes
    } else {
        4 * l2 + (64 << 20)
    });
    println!("# l2_mib={:.1}", l2 as f64 / f64::from(1 << 20));
    println!("# l3_mib={:.1}", l3 as f64 / f64::from(1 << 20));
    println!("# cold_mib={}", cold_bytes >> 20);
    println!("# huge_mib={}", memory::huge_mib().unwrap_or(0));
    if let Some(variant) = boot_choice(lib, &variants, &mut memory) {
        println!("# boot={}", variant.name);
    }
    println!("operation,data,bytes,heat,fits,side,name,round,ns,payload,traffic");
    for op in Operation::ALL {
        if !op.name().contains(&options.only) {
            continue;
        }
        if op.is_check() {
            // A check that finds nothing wrong reads everything; the C driver's destroys P, which with zeros is none.
            memory.all().fill(Line::ZERO);
        }
        for data in &options.data {
            for bytes in &options.bytes {
                one_case(options, lib, &variants, &mut memory, op, *data, *bytes, l2)?;
            }
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "they are what makes a case")]
fn one_case(
    options: &Options,
    lib: Libraid,
    variants: &[Variant],
    memory: &mut Memory,
    op: Operation,
    data: usize,
    bytes: usize,
    l2: usize,
) -> Result<(), String> {
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    for limit in Limit::all(lib) {
        contenders.push(Box::new(limit));
    }
    for kernel in Kernel::all(lib, variants, op, bytes / memory::LINE) {
        contenders.push(Box::new(kernel));
    }
    for engine in ours::all(&options.engines, op) {
        contenders.push(Box::new(engine));
    }
    check(&contenders, op, data, bytes)?;

    let footprint = op.blocks(data) * bytes;
    for heat in &options.heat {
        let hot = heat != "cold";
        let limit = match heat.as_str() {
            "same" => footprint,
            // Half of the cache, and one strip at the least.
            "hot" => footprint.max(l2 / 2 / footprint * footprint),
            _ => usize::MAX,
        };
        let mut blocks = memory.blocks(bytes, limit).into_iter();
        let mut strips: Vec<_> =
            std::iter::from_fn(|| Strip::take(op, data, &mut blocks)).collect();
        let plan = timing::Plan {
            rounds: options.rounds,
            sample: Duration::from_micros(if hot { 300 } else { 2000 }),
            warm: hot,
        };
        let fits = !hot || footprint * 10 <= l2 * 9;
        if op == Operation::CopyPq && data == GROUP && bytes == BLOCK_LINES * memory::LINE {
            sections(&contenders, op, heat, &mut strips, plan);
        }
        let times = timing::run(op, &contenders, &mut strips, plan);
        for (contender, times) in contenders.iter().zip(&times) {
            for (round, ns) in times.iter().enumerate() {
                let (side, name) = (contender.side(), contender.name());
                let (payload, traffic) = (
                    op.payload(data) * bytes,
                    contender.traffic(op, data) * bytes,
                );
                let fits = u8::from(fits);
                println!("{},{data},{bytes},{heat},{fits},{side},\"{name}\",{round},{ns:.1},{payload},{traffic}", op.name());
            }
        }
    }
    Ok(())
}

/// Says how long each of our engines keeps the vector registers at once, at the longest and in 99 of 100 cases, in microseconds: one
/// operation on a strip of one group is one such section, and what calls it.
fn sections(
    contenders: &[Box<dyn Contender>],
    op: Operation,
    heat: &str,
    strips: &mut [Strip<'_>],
    plan: timing::Plan,
) {
    let ours = contenders
        .iter()
        .filter(|contender| contender.side() == "ours" && contender.name() != "scalar");
    for contender in ours {
        let count = plan.rounds * 100;
        let times = timing::singles(op, contender.as_ref(), strips, plan, count);
        let most = times[times.len() - 1] / 1000.0;
        let usual = times[times.len() * 99 / 100] / 1000.0;
        println!("# section {heat} {}={most:.1} {usual:.1}", contender.name());
    }
}

/// Every contender must give the right result, for each slot.
fn check(
    contenders: &[Box<dyn Contender>],
    op: Operation,
    data: usize,
    bytes: usize,
) -> Result<(), String> {
    let mut memory = Memory::new(op.blocks(data) * bytes);
    let mut blocks = memory.blocks(bytes, usize::MAX).into_iter();
    let mut strip = Strip::take(op, data, &mut blocks).ok_or("memory for a strip is missing")?;
    for contender in contenders
        .iter()
        .filter(|contender| contender.side() != "memcpy")
    {
        for turn in 0..data {
            verify(op, &mut strip, turn, |strip| contender.run(op, strip, turn)).map_err(
                |wrong| {
                    let (name, side) = (contender.name(), contender.side());
                    format!(
                        "{} of {data} x {bytes} bytes by {side}/{name}, turn {turn}: {wrong}",
                        op.name()
                    )
                },
            )?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("bench-parity: {wrong}");
            ExitCode::FAILURE
        }
    }
}
