#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Make the table (Markdown) and the pictures (SVG) of a run of the array benchmark.

summary.py RESULTS.json: writes RESULTS.md, RESULTS-ratio.svg, RESULTS-throughput.svg and RESULTS-growth.svg beside it.
"""

import json
import math
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import rows as table
import svg

COLOURS = {"C as it comes": "#bbbbbb", "C, best settings": "#e69f00", "Rust": "#0072b2", "Rust, skip_copy=1": "#56b4e9",
           "Rust, group_thread_cnt=1": "#cc79a7", "Rust, kernel's parity": "#009e73", "raid0": "#666666"}
TITLES = {"c-default": "C as it comes", "c": "C, best settings", "rust": "Rust", "rust-skip-copy": "Rust, skip_copy=1",
          "rust-threads": "Rust, group_thread_cnt=1",
          "rust-kernel": "Rust, kernel's parity", "raid0": "raid0", "raw": "a member alone"}

# What is measured of a rebuild beside a load.
REBUILD_BESIDE = ("rebuild_mb_per_s", "iops")


def quartiles(values):
    """The median, and the quartiles around it."""
    if len(values) < 3:
        return statistics.median(values), min(values), max(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


class Results:
    """What was measured: samples by row, contender and round."""

    def __init__(self, path):
        self.data = json.loads(Path(path).read_text(encoding="utf-8"))
        self.rows = {row.name: row for row in table.rows()}
        self.samples, self.settings = {}, {}
        for sample in self.data["samples"]:
            if "mean_ns" in sample:
                sample["mean_us"] = sample["mean_ns"] / 1000
            self.samples.setdefault(sample["row"], {}).setdefault(sample["contender"], {})[sample["round"]] = sample
            if sample["contender"] == "c" and "settings" in sample:
                self.settings[sample["row"]] = sample["settings"]

    def values(self, row, contender, metric):
        """A metric in all rounds."""
        return [sample[metric] for sample in self.samples.get(row, {}).get(contender, {}).values() if metric in sample]

    def median(self, row, contender, metric):
        """Its median; None if it was not measured."""
        values = self.values(row, contender, metric)
        return statistics.median(values) if values else None

    def better_c(self, row, metric):
        """C with the settings that were best when they were tried, or as it comes where that turned out better. Of a rebuild beside a
        load it is the one with the larger product of both rates: it is not compared with one's rebuild and the other's load."""
        metrics = [metric]
        if metric in REBUILD_BESIDE and all(self.median(row, "rust", other) for other in REBUILD_BESIDE):
            metrics = REBUILD_BESIDE
        medians = {name: [self.median(row, name, one) for one in metrics] for name in ("c", "c-default")}
        found = {name: math.prod(values) for name, values in medians.items() if None not in values}
        best = max if table.METRICS[metric][1] else min
        return best(found, key=found.get) if found else "c"

    def ratio(self, row, one, other, metric):
        """The median and quartiles of the rounds' ratios; None where one is missing."""
        ours, theirs = (self.samples.get(row, {}).get(name, {}) for name in (one, other))
        ratios = [ours[turn][metric] / theirs[turn][metric] for turn in ours
                  if turn in theirs and metric in ours[turn] and theirs[turn].get(metric)]
        return quartiles(ratios) if ratios else None

    def floor(self, row):
        """I/Os per second of a small write if it cost no more than md core does for raid0 and its member operations: two
        reads and two writes, level 6 three of each. On null_blk the members' alone: they are what it is bound by. None if
        that was not measured."""
        alone, raid0 = (self.median(row.name, name, "iops") for name in ("raw", "raid0"))
        if not alone or not raid0 or "randwrite-4k-d64" not in row.what or row.how != "load":
            return None
        core = max(1 / raid0 - 1 / alone, 0) if row.stand.kind == "ram" else 0
        return 1 / (core + (6 if row.stand.level == 6 else 4) / alone)

    def ratio_to_c(self, row, one, metric):
        """The ratio to the better C."""
        return self.ratio(row, one, self.better_c(row, metric), metric)


def figure(value, metric):
    """A figure for the table."""
    if value is None:
        return ""
    if metric in ("mean_us", "member_reads_per_mib"):
        return f"{value:.1f}"
    return f"{value / 1000:.1f} k" if metric == "iops" and value >= 10000 else f"{value:.0f}"


def mark(reached):
    """Whether an aim is reached."""
    return " ✓" if reached else " ✗"


def percent(share, aim=0.0):
    """A share, and whether it is what is aimed at."""
    return f"{100 * share:.0f} %" + (mark(round(share, 2) >= aim) if aim else "")


def settings(found):
    """C's settings in short."""
    return f"{found['group_thread_cnt']}/{found['stripe_cache_size']}/{found['skip_copy']}" if found else ""


def table_lines(results):
    """The table, a line for each row and metric."""
    yield ("| array | load | | a member alone | raid0 | C as it comes | C, best settings (threads/cache/skip_copy) | Rust | "
           "**Rust ÷ C** (quartiles) | aim | of raid0 | CPU µs per I/O, Rust / C | p99.9 µs, Rust / C | others |")
    yield "|" + "---|" * 14
    for name, row in results.rows.items():
        if name not in results.samples or row.group != "table":
            continue
        for metric, aim in zip(row.metrics, row.aims + (0,) * len(row.metrics)):
            median = {c: results.median(name, c, metric) for c in TITLES}
            found = results.ratio_to_c(name, "rust", metric)
            less = not table.METRICS[metric][1]
            ratio = "**{:.2f}** ({:.2f}–{:.2f})".format(*found) if found else ""
            reached = f"{'≤' if less else '≥'} {aim:g}" if aim else "(less is better)" if less else ""
            if aim and found:
                reached += mark(round(found[0], 2) <= aim if less else round(found[0], 2) >= aim)
            if row.none and metric == row.metrics[0] and median["rust"] is not None:
                reached = f"0{mark(round(median['rust'], 1) == 0)}"
            if row.either and metric == row.metrics[0]:
                ratios = [found[0] for found in (results.ratio_to_c(name, "rust", one) for one in row.metrics) if found]
                reached += f"; one of them ≥ {row.either:g}{mark(round(max(ratios, default=0), 2) >= row.either)}"
            share = percent(median["rust"] / median["raid0"], row.share) if median["rust"] and median["raid0"] else ""
            floor = results.floor(row)
            if floor and median["rust"]:
                share += f"; of the floor {percent(median['rust'] / floor, row.floor)}"
            if row.member and median["rust"] and median["raw"]:
                share = f"of one member's writes {percent(median['rust'] / median['raw'], row.member)}"
            others = []
            for other in ("rust-skip-copy", "rust-threads", "rust-kernel"):
                if median[other] is not None:
                    times = results.ratio_to_c(name, other, metric)
                    others.append(f"{TITLES[other]}: {figure(median[other], metric)}" + (f" (×{times[0]:.2f})" if times else ""))
                    if other == "rust-skip-copy" and row.skipping and median["raid0"]:
                        others[-1] += f", {percent(median[other] / median['raid0'], row.skipping)} of raid0"
            pair = []
            for key, most in (("cpu_ns_per_io", row.cpu), ("p999_ns", row.tail)):
                ours, theirs = (results.median(name, c, key) for c in ("rust", results.better_c(name, metric)))
                pair.append(f"{ours / 1000:.1f} / {theirs / 1000:.1f}" if ours and theirs else "")
                if pair[-1] and most:
                    pair[-1] += mark(round(ours / theirs, 2) <= most)
            best = figure(median["c"], metric)
            if name in results.settings:
                best += f" ({settings(results.settings[name])})"
            figures = {c: figure(value, metric) for c, value in median.items()}
            cells = [row.stand.title(), row.title, table.METRICS[metric][0], figures["raw"], figures["raid0"],
                     figures["c-default"], best, figures["rust"], ratio, reached, share, *pair, "; ".join(others)]
            yield "| " + " | ".join(cells) + " |"


def bitmap_lines(results):
    """What a write-intent bitmap adds."""
    for depth in ("d1", "d16"):
        added = {}
        for contender in ("rust", "c"):
            without, with_it = (results.median(f"{stand}-bitmap-compared-{depth}", contender, "mean_us")
                                for stand in ("ram-5", "ram-5-bitmap"))
            if without is None or with_it is None:
                break
            added[contender] = with_it - without
        else:
            yield (f"- Added by a write-intent bitmap to a 4 KiB random write, {depth}: "
                   f"Rust {added['rust']:.1f} µs, C {added['c']:.1f} µs; aim: half{mark(added['rust'] <= added['c'] / 2)}.")


def cliffs(results):
    """Points of the growth plots below 70 % of their better neighbour; with more I/Os in flight or jobs, of the one before:
    that less of them give less is no fault."""
    for (level, group, what, metric), curve in sorted(growth(results).items()):
        points = sorted((x, values["Rust"][0]) for x, values in curve.items() if "Rust" in values)
        for at, (x, value) in enumerate(points):
            near = points[max(0, at - 1):at] + (points[at + 1:at + 2] if group in ("members", "chunk") else [])
            better = max((other for _, other in near), default=0)
            if value < 0.7 * better:
                yield (f"- level {level}, {what} against {group}, at {x}: {figure(value, metric)}, "
                       f"{100 * value / better:.0f} % of its better neighbour")


def growth(results):
    """{(level, group, what, metric): {x: {title: (median, low, high)}}}"""
    found = {}
    for name, contenders in results.samples.items():
        row = results.rows.get(name)
        if not row or row.group == "table":
            continue
        what = row.what.rpartition(f"-{row.group}")[0]
        curve = found.setdefault((row.stand.level, row.group, what, row.metrics[0]), {})
        for contender in ("c", "rust"):
            if contender in contenders:
                curve.setdefault(row.x, {})[TITLES[contender]] = quartiles(results.values(name, contender, row.metrics[0]))
    return found


def growth_picture(results):
    """A panel for each quantity that grows."""
    panels = growth(results)
    if not panels:
        return None
    body = list(svg.legend(70, 24, {name: COLOURS[name] for name in ("C, best settings", "Rust")}))
    units = {"depth": "I/Os in flight", "jobs": "submitting threads, 16 I/Os each", "members": "members", "chunk": "chunk, KiB"}
    columns = 3
    for at, ((level, group, what, metric), curve) in enumerate(sorted(panels.items())):
        x, y = 70 + (at % columns) * 330, 70 + (at // columns) * 250
        series = {}
        for place, values in curve.items():
            for name, value in values.items():
                series.setdefault(name, []).append((place, *value))
        title = f"Level {level}: {what}, {table.METRICS[metric][0]}"
        body += svg.curves(x, y, 250, 160, title, series, COLOURS, unit=units[group])
    height = 70 + (len(panels) + columns - 1) // columns * 250
    return svg.document(70 + columns * 330, height, body)


def chosen(results, how):
    """The rows for the pictures."""
    return [row for name, row in results.rows.items() if name in results.samples and row.group == "table" and row.how in how]


def title(row):
    """A row's name in a picture."""
    return f"{row.stand.title()}: {row.title}"


def ratio_picture(results):
    """How many times C's best: a bar for each row, the aims as marks."""
    groups, marks = [], {}
    for row in chosen(results, ("load", "sync", "rebuild", "fio")):
        metric = row.metrics[0]
        found = results.ratio_to_c(row.name, "rust", metric)
        if not found or not table.METRICS[metric][1]:
            continue
        groups.append((title(row), {"Rust": tuple(min(value, 12) for value in found)}))
        if row.aims[0]:
            marks[title(row)] = row.aims[0]
    if not groups:
        return None
    lines, bottom = svg.bars(430, 70, 440, groups, COLOURS, marks, height=11)
    head = [svg.text(10, 20, "Speed in multiples of the C module with the best of its settings", bold=True, size=14),
            svg.text(10, 40, "Medians and quartiles of the rounds' ratios; black marks: the aim. Bars end at 12.")]
    return svg.document(920, int(bottom) + 20, head + lines)


def throughput_picture(results):
    """Each contender's throughput: a panel for I/Os per second and one for MB/s."""
    body = [svg.text(10, 20, "Throughput: medians and quartiles", bold=True, size=14), *svg.legend(10, 42, COLOURS)]
    y = 80
    for metric in ("iops", "mb_per_s"):
        groups = []
        for row in chosen(results, ("load", "sync")):
            series = {}
            for contender in ("c-default", "c", "rust", "rust-skip-copy", "rust-threads", "rust-kernel", "raid0"):
                values = results.values(row.name, contender, metric)
                if row.metrics[0] == metric and values:
                    series[TITLES[contender]] = quartiles(values)
            if "Rust" in series:
                groups.append((title(row), series))
        if groups:
            body.append(svg.text(430, y - 12, table.METRICS[metric][0], bold=True))
            lines, y = svg.bars(430, y, 440, groups, COLOURS, height=8)
            body += lines
            y += 40
    return svg.document(920, int(y), body) if y > 80 else None


def markdown(results, stem, pictures):
    """The whole report."""
    about = results.data["about"]
    yield "# Arrays under both drivers\n"
    yield (f"- {about['date']}, commit {about['commit']}; kernel: {about['kernel']}, {about['cpus']} CPUs; {about['cpu']}; "
           f"load of the machine before: {about['load']}.")
    yield (f"- {about['rounds']} rounds of {about['seconds']:g} s each, in one boot, the drivers' order swapped each round, "
           "the same members for both. Medians; ratios are of the same round.")
    yield "- The ratio is to C with the best of its settings, or as it comes where that turned out better."
    yield ("- The floor of a small write: md core's cost, as raid0 has it, and four member operations (six at level 6); on null_blk "
           "these alone.")
    yield "- ✓ and ✗: what is aimed at is reached or not; of CPU time and p99.9 half of C's, of whole rows a share of raid0's speed."
    yield "- How to read and repeat it, and what flatters whom: Documentation/benchmarks.md.\n"
    for picture in pictures:
        yield f"![{picture.stem}]({picture.name})\n"
    if any(row.group == "table" for name, row in results.rows.items() if name in results.samples):
        yield from table_lines(results)
        yield ""
    yield from bitmap_lines(results)
    found = list(cliffs(results))
    if growth(results):
        yield ("\nGrowth: no point lower than 70 % of its better neighbour." if not found else
               "\nGrowth: points lower than 70 % of their better neighbour:\n")
        yield from found


def write(path):
    """Writes all of it; returns the files."""
    path = Path(path)
    results = Results(path)
    pictures = []
    drawn = {"ratio": ratio_picture, "throughput": throughput_picture, "growth": growth_picture}
    for name, draw in drawn.items():
        picture, lines = path.with_name(f"{path.stem}-{name}.svg"), draw(results)
        if lines:
            picture.write_text("\n".join(lines) + "\n", encoding="utf-8")
            pictures.append(picture)
    report = path.with_suffix(".md")
    report.write_text("\n".join(markdown(results, path.stem, pictures)) + "\n", encoding="utf-8")
    return [report, *pictures]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for made in write(sys.argv[1]):
        print(made)
