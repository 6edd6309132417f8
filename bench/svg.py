# SPDX-License-Identifier: GPL-2.0
"""Pictures of figures as SVG text: bars and curves, in one style."""

import html
import math

GREY, LINE = "#dddddd", "#000000"


def document(width, height, body):
    """The lines of a whole picture."""
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" font-size="11">')
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield from body
    yield "</svg>"


def text(x, y, words, anchor="start", bold=False, size=11):
    """A line of text."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight}>{html.escape(str(words))}</text>'


def bar(x, y, width, height, colour):
    """A filled rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{colour}"/>'


def line(x1, y1, x2, y2, colour=LINE, width=1, dashes=""):
    """A straight line."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"{dashed}/>')


def legend(x, y, names):
    """Colours and what they stand for: names is {name: colour}."""
    for name, colour in names.items():
        yield bar(x, y - 9, 10, 10, colour)
        yield text(x + 14, y, name)
        x += 34 + 6.2 * len(name)


def ticks(most):
    """Round numbers from 0 to about `most`."""
    step = 10 ** math.floor(math.log10(max(most, 1e-9)))
    step *= next(factor for factor in (0.1, 0.2, 0.5, 1) if most / (step * factor) <= 6 or factor == 1)
    return [step * n for n in range(int(most / step + 1e-9) + 1)]


def number(value):
    """A figure for an axis or a bar: 12, 3.4, 120 k."""
    if value >= 10000:
        return f"{value / 1000:.0f} k"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def bars(x, y, width, groups, colours, marks=None, height=9):
    """Horizontal bars from x on: groups is [(title, {name: (value, low, high)})], titles to the left. marks: {title: value},
    a line across the group. Returns the lines and the y below."""
    lines = []
    most = max([value for _, series in groups for value, _, _ in series.values()] + list((marks or {}).values()) + [1e-9])
    scale = width / most
    top = y
    body = []
    for title, series in groups:
        size = height * len(series)
        body.append(text(x - 8, y + size / 2 + 4, title, "end"))
        for place, (name, (value, low, high)) in enumerate(series.items()):
            at = y + place * height
            body.append(bar(x, at, value * scale, height - 2, colours[name]))
            body.append(line(x + min(low, most) * scale, at + height / 2 - 1, x + min(high, most) * scale, at + height / 2 - 1))
            body.append(text(x + max(value, min(high, most)) * scale + 4, at + height - 2, number(value), size=8))
        if marks and title in marks:
            body.append(line(x + marks[title] * scale, y - 2, x + marks[title] * scale, y + size, LINE, 2))
        y += size + 8
    for tick in ticks(most):
        lines.append(line(x + tick * scale, top - 4, x + tick * scale, y, GREY))
        lines.append(text(x + tick * scale, y + 12, number(tick), "middle"))
    return lines + body, y + 20


def curves(x, y, width, height, title, series, colours, logarithmic=True, unit=""):
    """A panel with a curve for each of {name: [(x, value, low, high)]}; the values' axis begins at 0."""
    points = [point for curve in series.values() for point in curve]
    if not points:
        return
    most = max(point[3] for point in points) * 1.05
    places = sorted({point[0] for point in points})

    def across(value):
        if len(places) == 1:
            return x + width / 2
        low, high = (math.log2(places[0]), math.log2(places[-1])) if logarithmic else (places[0], places[-1])
        return x + width * ((math.log2(value) if logarithmic else value) - low) / (high - low)

    def up(value):
        return y + height - height * value / most

    yield text(x, y - 8, title, bold=True)
    for tick in ticks(most):
        yield line(x, up(tick), x + width, up(tick), GREY)
        yield text(x - 5, up(tick) + 4, number(tick), "end")
    for place in places:
        yield text(across(place), y + height + 14, place, "middle")
    yield text(x + width / 2, y + height + 28, unit, "middle")
    for name, curve in series.items():
        path = " ".join(f"{across(at):.1f},{up(value):.1f}" for at, value, _, _ in sorted(curve))
        yield f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>'
        for at, value, low, high in curve:
            yield line(across(at), up(low), across(at), up(high), colours[name])
            yield f'<circle cx="{across(at):.1f}" cy="{up(value):.1f}" r="2.5" fill="{colours[name]}"/>'
