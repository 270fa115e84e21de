"""The summaries as a chart: for each case a bar a target, as the ratio to HAProxy in the same round.

Self-contained SVG that follows the reader's light or dark colours. A whisker goes from the lowest to the highest round.
"""

from xml.sax.saxutils import escape

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600 } .faint { fill: #57606a }
.bar { fill: #8c959f } .ours { fill: #0969da } .line { stroke: #d0d7de } .whisker { stroke: #24292f }
.paper { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .faint { fill: #8d96a0 } .bar { fill: #6e7681 } .ours { fill: #4493f8 }
  .line { stroke: #3d444d } .whisker { stroke: #e6edf3 } .paper { fill: #0d1117 }
}
"""

LEFT, WIDTH, RIGHT = 130, 430, 260
ROW, GAP = 22, 34
BESIDE = "haproxy"


def drawn(said):
    """The chart of all cases that HAProxy was measured in."""
    parts, y = [], 30
    parts.append(text(16, y, "Ratio to HAProxy in the same round; less is better", "title"))
    y += 12
    for case in said["cases"].values():
        rows = {
            name: (target["ratio_to"][BESIDE], target["median"][case["figure"]])
            for name, target in case["targets"].items() if target["ratio_to"].get(BESIDE)
        }
        if rows:
            y = group(parts, y + GAP, case, rows)
    y += 30
    machine = said["machine"]
    parts.append(text(16, y, f"{machine['cpu']}, Linux {machine['kernel']}, {machine['date']}", "faint"))
    width, height = LEFT + WIDTH + RIGHT, y + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="weir beside other proxies">\n<style>{STYLE}</style>\n'
        f'<rect class="paper" width="{width}" height="{height}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def group(parts, y, case, rows):
    """Adds a case below `y`; where it ends."""
    parts.append(text(16, y, f"{case['title']} ({case['unit']})", "title"))
    largest = max(ratio["highest"] for ratio, _ in rows.values())
    scale = WIDTH / max(largest, 1.0)
    top, one = y + 8, LEFT + scale
    for name, (ratio, value) in rows.items():
        end = LEFT + scale * ratio["median"]
        low, high = LEFT + scale * ratio["lowest"], LEFT + scale * ratio["highest"]
        y += ROW
        kind = "ours" if name == "weir" else "bar"
        parts.append(text(LEFT - 8, y + 4, name, "", "end"))
        parts.append(f'<rect class="{kind}" x="{LEFT}" y="{y - 7}" width="{end - LEFT:.1f}" height="14" rx="2"/>')
        parts.append(f'<path class="whisker" d="M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 4}v8M{high:.1f} {y - 4}v8"/>')
        said = f"{ratio['median']:.2f} ({ratio['lowest']:.2f}–{ratio['highest']:.2f})"
        parts.append(text(LEFT + WIDTH + 10, y + 4, said))
        parts.append(text(LEFT + WIDTH + RIGHT - 16, y + 4, f"{value:,.1f}", "faint", "end"))
    parts.append(f'<path class="line" d="M{one:.1f} {top}V{y + 10}" stroke-dasharray="3 3"/>')
    return y


def text(x, y, content, kind="", anchor="start"):
    """A line of text."""
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'
