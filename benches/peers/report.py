"""What the records say: medians, ratios inside a round, and a verdict only where the spread allows one."""

import statistics

# Fewer rounds have no spread to speak of.
ENOUGH = 3

# Builds of weir; the rest are peers.
OURS = ("weir", "other")


def summary(case, result):
    """The figures of a case as they are printed and written."""
    records = {name: rows for name, rows in result.records.items() if rows}
    middle = {name: statistics.median(row[case.figure] for row in rows) for name, rows in records.items()}
    best = min((name for name in records if name not in OURS), key=middle.get, default=None)
    beside = [best, "haproxy", "weir" if "other" in records else None]
    beside = [name for number, name in enumerate(beside) if name in records and name not in beside[:number]]
    targets = {
        name: {
            "median": {key: statistics.median(row[key] for row in rows) for key in rows[0]},
            "ratio_to": {other: ratio(case, rows, records[other]) for other in beside},
            "rounds": rows,
        }
        for name, rows in records.items()
    }
    pairs = [(name, best) for name in OURS if name in records and best] + [("other", "weir")]
    return {
        "title": case.title, "figure": case.figure, "unit": case.unit, "best_peer": best, "targets": targets,
        "verdicts": [verdict(*pair, targets) for pair in pairs if set(pair) <= set(records)],
        "discarded_rounds": result.discarded, "not_measured": result.unfit,
    }


def ratio(case, rows, others):
    """The ratio to another target inside each round: median, lowest, highest."""
    ratios = [row[case.figure] / other[case.figure] for row, other in zip(rows, others) if other[case.figure] > 0]
    if not ratios:
        return None
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def verdict(name, other, targets):
    """Who is better: only if one is in every round, and there are enough rounds to say so."""
    found = targets[name]["ratio_to"][other]
    if found is None or len(targets[name]["rounds"]) < ENOUGH:
        return f"{name}, {other}: too few rounds to say"
    if found["lowest"] <= 1 <= found["highest"]:
        return f"{name}, {other}: no difference"
    return f"{name}, {other}: {name if found['highest'] < 1 else other} is better"


def table(case, said):
    """The lines of a case's table."""
    columns = [case.figure, *case.also]
    beside = next((list(target["ratio_to"]) for target in said["targets"].values()), [])
    head = "".join(f"{name:>22}" for name in columns) + "".join(f"{'to ' + name:>22}" for name in beside)
    lines = [f"  {'':12}{head}"]
    for name, target in said["targets"].items():
        cells = "".join(f"{target['median'][key]:22.2f}" for key in columns)
        cells += "".join(f"{spread(target['ratio_to'][other]):>22}" for other in beside)
        lines.append(f"  {name:12}{cells}")
    lines += [f"  {name:12}NOT MEASURED: {' '.join(why.split())}" for name, why in said["not_measured"].items()]
    if not said["targets"]:
        lines.append("  no round was left to show; on a busy machine, --foreign 100 keeps them all")
    lines += [f"  {text}" for text in said["verdicts"]]
    if said["discarded_rounds"]:
        lines.append(f"  rounds discarded because others used a core: {said['discarded_rounds']}")
    return "\n".join(lines)


def spread(found):
    """A ratio and how far it went over the rounds."""
    return f"{found['median']:.2f} ({found['lowest']:.2f}–{found['highest']:.2f})" if found else "-"
