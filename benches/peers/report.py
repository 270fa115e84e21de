"""What the records say: medians, ratios inside a round, and a verdict only where the spread allows one."""

import statistics

BASE = "haproxy"


def summary(case, result):
    """The figures of a case as they are printed and written."""
    records = {name: rows for name, rows in result.records.items() if rows}
    peers = [name for name in records if name not in ("weir", "other")]
    middle = {name: statistics.median(row[case.figure] for row in rows) for name, rows in records.items()}
    best = min(peers, key=middle.get, default=None)
    targets = {}
    for name, rows in records.items():
        figures = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        targets[name] = {"median": figures, "rounds": rows}
        if best:
            targets[name]["to_best"] = ratio(case, rows, records[best])
        if BASE in records:
            targets[name]["to_haproxy"] = ratio(case, rows, records[BASE])
    return {
        "title": case.title, "figure": case.figure, "unit": case.unit, "best_peer": best, "targets": targets,
        "discarded_rounds": result.discarded, "not_measured": result.unfit,
        "verdicts": {name: verdict(name, best, targets) for name in ("weir", "other") if name in targets and best},
    }


def ratio(case, rows, others):
    """The ratio to another target inside each round: median, lowest, highest."""
    ratios = [row[case.figure] / other[case.figure] for row, other in zip(rows, others) if other[case.figure]]
    if not ratios:
        return None
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def verdict(name, best, targets):
    """Who is better, if the ratio is on one side of 1 in every round, and there are enough rounds to say so."""
    found = targets[name]["to_best"]
    if found is None or len(targets[name]["rounds"]) < 3:
        return "too few rounds for a verdict"
    if found["lowest"] <= 1 <= found["highest"]:
        return f"no difference between {name} and {best}"
    return f"{name if found['highest'] < 1 else best} is better"


def table(case, said):
    """The lines of a case's table."""
    columns = [case.figure, *case.also]
    head = f"  {'':12}" + "".join(f"{name:>21}" for name in columns)
    lines = [f"{case.name}: {case.title}", f"{head}{'to ' + (said['best_peer'] or '-'):>24}{'to ' + BASE:>24}"]
    for name, target in said["targets"].items():
        cells = "".join(f"{target['median'][key]:21.2f}" for key in columns)
        lines.append(f"  {name:12}{cells}{spread(target.get('to_best')):>24}{spread(target.get('to_haproxy')):>24}")
    lines += [f"  {name:12} NOT MEASURED: {why}" for name, why in said["not_measured"].items()]
    lines += [f"  {text}" for text in said["verdicts"].values()]
    lines.append(f"  rounds discarded because others used a core: {said['discarded_rounds']}")
    return "\n".join(lines)


def spread(found):
    """A ratio and how far it went over the rounds."""
    return f"{found['median']:.2f} ({found['lowest']:.2f}–{found['highest']:.2f})" if found else "-"
