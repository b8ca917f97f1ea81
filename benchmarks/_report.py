"""Records of measurements: saved as JSON, kept as history, rendered as Markdown."""

import json
from pathlib import Path

from ._environment import ROOT
from ._figures import summarise_figures
from ._graphs import mean, summarise_graphs
from ._measure import MAX_EXTRAPOLATION, MEBIBYTE, paired_ratios, spread, summarise
from ._tasks import summarise_tasks

RESULTS = ROOT / "benchmarks" / "results"
PAGES = ROOT / "docs" / "benchmarks"

_HOW = {
    "between": "between two settings",
    "fastest": "at its fastest setting, already more accurate",
    "extrapolated": f"extrapolated by at most a factor {MAX_EXTRAPOLATION:g}",
    "not reached": "not reached",
}


# --------------------------------------------------------------------------- records


def save(document, folder=RESULTS):
    """Write one run's document beside the earlier ones and return its path.

    Parameters
    ----------
    document : dict
        With ``family``, ``date`` (ISO) and ``commit``.
    folder : path
        The folder of all families' results.

    Returns
    -------
    pathlib.Path
    """
    folder = Path(folder, document["family"])
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{document['date'][:10]}-{document['commit']}"
    path, number = folder / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.json"
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def load_history(family, folder=RESULTS):
    """Return a family's documents, oldest first."""
    documents = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(Path(folder, family).glob("*.json"))
    ]
    return sorted(documents, key=lambda document: document["date"])


# --------------------------------------------------------------------------- pages


def render(family, documents):
    """Return a family's page: for every problem its newest record, then its history.

    Parameters
    ----------
    family : str
    documents : list of dict
        Oldest first.

    Returns
    -------
    str
    """
    lines = [f"# {family}", ""]
    if not documents:
        lines += [
            f"No run has been recorded yet; `python -m benchmarks {family}` makes one.",
            "",
        ]
    runs = {}
    for document in documents:
        for record in document["problems"]:
            runs.setdefault(record["key"], []).append((document, record))
    for history in runs.values():
        document, record = history[-1]
        lines += [f"## {record['title']}", "", record["description"], ""]
        lines += [_provenance(document, record), ""]
        lines += _TABLES[record["kind"]](document, record)
        if len(history) > 1:
            lines += _history(history)
    return "\n".join(lines).rstrip() + "\n"


def _provenance(document, record):
    dirty = " with uncommitted changes" if document["uncommitted_changes"] else ""
    sizes = ", ".join(f"{name} {_size(value)}" for name, value in record["sizes"].items())
    where = (
        f"{document['cpu']} ({document['cores']} cores), {document['system']}, "
        f"Python {document['python']}"
    )
    repeats = "Run"
    if record["repeats"] is not None:
        repeats = f"{record['repeats']} repeat" + "s" * (record["repeats"] != 1)
    load = document["load_before"]
    busy = "" if load is None else f", load {load:.1f} before the run"
    base = ("numpy", "scipy", "scikit-learn", "numba")
    versions = ", ".join(f"{name} {document['versions'][name]}" for name in base)
    return (
        f"Sizes: {sizes}. {repeats} on {document['date'][:10]}, commit "
        f"`{document['commit']}`{dirty}, {where}{busy}, {versions}: `{document['command']}`"
    )


def _race(document, record):
    summary = summarise(record)
    clock = record["clock"]
    threads = f"{record['threads']} thread" + "s" * (record["threads"] != 1)
    lines = [
        f"Common accuracy: {record['target']:.0e} ({record['accuracy_name']}); {threads}; "
        f"{'CPU' if clock == 'cpu' else 'wall'} time decides.",
        f"Thread pools: {', '.join(record['pools'])}.",
        "",
        _verdict(record, summary),
        "",
        "| solver | CPU s | wall s | read | ours / this, median [range] | peak memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for entry, row in zip(record["solvers"], summary["solvers"]):
        name = _solver_name(document, entry)
        if entry["status"] != "ok":
            lines.append(f"| {name} | {_status(entry)} | | | | |")
            continue
        lines.append(
            f"| {name} | {_seconds(row['cpu'])} | {_seconds(row['wall'])} "
            f"| {_HOW[row[clock]['how']]} | {_ratio(row['ratio'], record['repeats'])} "
            f"| {_memory(entry, record)} |"
        )
    lines += ["", *_curves(record), *_memory_notes(record)]
    return lines


def _verdict(record, summary):
    if summary["ours"] is None or summary["best"] is None:
        return "**No comparison: no peer, or not our solver, took part and reached the accuracy.**"
    ratio = next(row for row in summary["solvers"] if row["name"] == summary["best"])["ratio"]
    if ratio is None:
        return (
            f"**Lost to {summary['best']}: {summary['ours']} did not finish, or did not reach the "
            "accuracy.**"
        )
    won = "Faster than" if ratio["median"] < 1 else "Slower than"
    return (
        f"**{won} the fastest peer, {summary['best']}: ratio of times "
        f"{_ratio(ratio, record['repeats'])}.**"
    )


def _curves(record):
    lines = [
        "Curves, medians over the repeats:",
        "",
        "| solver | its tolerance | accuracy attained | CPU s | wall s |",
        "|---|---|---|---|---|",
    ]
    for entry in record["solvers"]:
        for run in entry["runs"]:
            cpu, wall = spread(run["cpu"]), spread(run["wall"])
            if cpu is None:
                continue
            attained = spread(run["accuracy"])
            accuracy = "not finite" if attained is None else f"{attained['median']:.1e}"
            lines.append(
                f"| {entry['name']} | {run['tolerance']:.0e} | {accuracy} "
                f"| {_time(cpu['median'])} | {_time(wall['median'])} |"
            )
    return [*lines, ""]


def _memory(entry, record):
    if entry["memory"] is None or entry["memory"]["bytes"] is None:
        return "unknown"
    peak = entry["memory"]["bytes"]
    text = f"{peak / MEBIBYTE:.1f}"
    limit = record["memory_limit"]
    if limit is None:
        return text
    verdict = "within" if peak <= limit else "**above**"
    return f"{text} ({verdict} the limit of {limit / MEBIBYTE:.1f})"


def _memory_notes(record):
    hows = {entry["memory"]["how"] for entry in record["solvers"] if entry["memory"]}
    if not hows:
        return []
    return [f"Peak memory above the level before the call: {', '.join(sorted(hows))}.", ""]


def _startup(document, record):
    lines = [
        "| package | import, s | first fit, cache warm, s | first fit, cache cold, s |",
        "|---|---|---|---|",
    ]
    for entry in record["programs"]:
        name = _solver_name(document, entry)
        if entry["status"] != "ok":
            lines.append(f"| {name} | {_status(entry)} | | |")
            continue
        cells = [
            _spread([times[what] for times in entry[temperature]])
            for temperature, what in (("warm", "import"), ("warm", "fit"), ("cold", "fit"))
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _graphs(document, record):
    if record["missing"] is not None:
        return [f"**Not run: {record['missing']}**", ""]
    threads = f"{record['threads']} thread" + "s" * (record["threads"] != 1)
    lines = [
        f"{threads}; thread pools: {', '.join(record['pools'])}. Ratios are of CPU times.",
        "",
        *_graph_verdict(record),
        "| method | runs | CPU s | wall s | central path / this | this / ours | objective "
        "| not above the central path's | iterations | peak memory, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = summarise_graphs(record)
    for entry, row in zip(record["solvers"], rows):
        name = _solver_name(document, entry)
        if entry["status"] != "ok":
            lines.append(f"| {name} | {_status(entry)} |" + " |" * 8)
            continue
        worth = row["worth"]
        memory = entry["memory"]
        known = memory is not None and memory["bytes"] is not None
        cells = [
            name,
            str(len(entry["runs"])),
            _range(row["cpu"]),
            _range(row["wall"]),
            _times(row["speedup"]),
            _times(row["slowdown"]),
            _mean(worth.get("objective"), ".6g"),
            f"{row['no_worse']} of {row['judged']}" if row["judged"] else "",
            _mean(worth.get("n_iter"), ",.0f"),
            f"{memory['bytes'] / MEBIBYTE:.1f}" if known else "not measured",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *_graph_worth(document, record, rows)]
    lines += _memory_notes(record)
    return lines


def _graph_worth(document, record, rows):
    if not any(row["worth"] for row in rows):
        return []
    lines = [
        "| method | SHD, mean | SHD of each | SHD of the CPDAGs, mean | edges, mean "
        "| error of the noise scales, mean |",
        "|---|---|---|---|---|---|",
    ]
    for entry, row in zip(record["solvers"], rows):
        worth = row["worth"]
        if entry["status"] != "ok" or not worth:
            continue
        each = ", ".join(str(shd) for shd in worth["shd"] if shd is not None)
        lines.append(
            f"| {_solver_name(document, entry)} | {_mean(worth['shd'], '.1f')} | {each} "
            f"| {_mean(worth['shd_cpdag'], '.1f')} | {_mean(worth['edges'], '.1f')} "
            f"| {_mean(worth['noise_error'], '.1%')} |"
        )
    return [*lines, ""]


def _graph_verdict(record):
    rows = dict(zip((entry["role"] for entry in record["solvers"]), summarise_graphs(record)))
    ours, reference = rows.get("ours"), rows.get("reference")
    if ours is None or ours["speedup"] is None:
        return []
    faster = ours["speedup"]["median"]
    words = (
        f"{_factor(faster)} times faster" if faster >= 1 else f"{_factor(1 / faster)} times slower"
    )
    distances = [_mean(row["worth"].get("shd"), ".1f") for row in (ours, reference)]
    return [
        f"**{ours['name']} is {words} than the central path, with an objective that is not above "
        f"its on {ours['no_worse']} of {ours['judged']} data sets, and a mean SHD of "
        f"{distances[0]} against {distances[1]}.**",
        "",
    ]


def _iterations(document, record):
    names = list(record["rows"][0]["seconds"])
    others = [name for name in names if name != record["baseline"]]
    lines = [
        f"CPU seconds per 1,000 iterations, {record['threads']} thread"
        + "s" * (record["threads"] != 1)
        + f"; thread pools: {', '.join(record['pools'])}.",
        "",
        "| nodes | "
        + " | ".join([*names, *(f"{name} / {record['baseline']}" for name in others)])
        + " |",
        "|---" * (1 + len(names) + len(others)) + "|",
    ]
    for row in record["rows"]:
        seconds = row["seconds"]
        cells = [_spread(seconds[name]) for name in names]
        cells += [
            _times(spread(paired_ratios(seconds[name], seconds[record["baseline"]])))
            for name in others
        ]
        lines.append(f"| {row['n_nodes']} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _tasks(document, record):
    rows = summarise_tasks(record)
    clock = "CPU" if record["clock"] == "cpu" else "wall"
    facts = list(dict.fromkeys(name for entry in record["solvers"] for name in entry["facts"]))
    compared = any(row["ratio"] is not None for row in rows)
    columns = ["way", "threads", f"{record['unit']}s a call", f"CPU a {record['unit']}"]
    columns += [f"wall a {record['unit']}", *["this / ours", "aim"] * compared, *facts]
    columns.append("peak memory, MiB")
    ratios = f"; ratios are of {clock} times" if compared else ""
    lines = [
        f"Thread pools: {', '.join(record['pools'])}{ratios}.",
        "",
        *_task_verdict(record, rows),
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for entry, row in zip(record["solvers"], rows):
        name = _solver_name(document, entry)
        if entry["status"] != "ok":
            lines.append(f"| {name} | {_status(entry)} |" + " |" * (len(columns) - 2))
            continue
        memory = entry["memory"]
        known = memory is not None and memory["bytes"] is not None
        aim = "" if row["reached"] is None else f"at least {entry['aim']:,g}"
        verdict = {None: "", True: ", reached", False: ", **missed**"}[row["reached"]]
        cells = [
            name,
            str(entry["threads"]),
            f"{entry['units']:,}",
            _durations(row["cpu"]),
            _durations(row["wall"]),
            *[_times(row["ratio"]), aim + verdict] * compared,
            *(_fact(entry["facts"].get(fact)) for fact in facts),
            f"{memory['bytes'] / MEBIBYTE:.1f}" if known else "not measured",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for entry in record["solvers"]:
        if entry["checked"]:
            lines += [f"Checked for {entry['name']}: {entry['checked']}.", ""]
    return lines + _memory_notes(record)


def _task_verdict(record, rows):
    compared = _compared(record, rows)
    ours = next((entry for entry in record["solvers"] if entry["ours"]), None)
    peers = [pair for pair in compared if pair[0]["distribution"] != ours["distribution"]]
    if not compared:
        return []
    words = "; ".join(
        f"{_factor(ratio)} times faster than {entry['name']}"
        if ratio >= 1
        else f"{_factor(1 / ratio)} times slower than {entry['name']}"
        for entry, ratio in ((entry, row["ratio"]["median"]) for entry, row in peers or compared)
    )
    return [f"**{ours['name']}: {words}.**", ""]


def _compared(record, rows):
    return [pair for pair in zip(record["solvers"], rows) if pair[1]["ratio"] is not None]


def _figures(document, record):
    if record["missing"] is not None:
        return [f"**Not run: {record['missing']}**", ""]
    rows, slopes = summarise_figures(record)
    statistic = record["statistic"]
    aims = any(row["reached"] is not None for row in rows)
    columns = ["data", "method", "runs", record["measure"]]
    columns += ["standard error" if statistic == "mean" else "range", *["aim"] * aims]
    columns += ["CPU of a fit", "wall of a fit"]
    threads = f"{record['threads']} thread" + "s" * (record["threads"] != 1)
    lines = [
        f"{threads}; thread pools: {', '.join(record['pools'])}.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
    ]
    setting = None
    for entry, row in zip(record["solvers"], rows):
        name = _solver_name(document, entry)
        # A setting is named in the first of its rows.
        where, setting = ("" if entry["setting"] == setting else entry["setting"]), entry["setting"]
        if entry["status"] != "ok":
            lines.append(f"| {where} | {name} | {_status(entry)} |" + " |" * (len(columns) - 3))
            continue
        scatter = "" if row["range"] is None else "[{}, {}]".format(*map(_figure, row["range"]))
        if statistic == "mean":
            scatter = "" if row["error"] is None else _figure(row["error"])
        cells = [
            where,
            name,
            str(len(entry["runs"])),
            "not finite" if row["value"] is None else _figure(row["value"]),
            scatter,
            *[_aim(entry["aim"], row["reached"])] * aims,
            _durations(row["cpu"]),
            _durations(row["wall"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for found in slopes:
        value = "not known" if found["slope"] is None else f"{found['slope']:.3f}"
        verdict = _aim(found["aim"], found["reached"])
        lines += [f"Slope for {found['name']}: **{value}**; aim: {verdict}.", ""]
    return lines


def _aim(limits, reached):
    low, high = limits
    if reached is None:
        return ""
    if low is not None and high is not None:
        words = f"between {_figure(low)} and {_figure(high)}"
    else:
        words = f"at most {_figure(high)}" if low is None else f"at least {_figure(low)}"
    return words + (", reached" if reached else ", **missed**")


def _figure(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _fact(value):
    return "" if value is None else value if isinstance(value, str) else _size(value)


def _durations(values):
    if values is None:
        return ""
    median = values["median"]
    scale, unit = next(
        (pair for pair in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if median >= pair[0]),
        (1e-9, "ns"),
    )
    cells = (_time(values[name] / scale) for name in ("median", "min", "max"))
    return "{} [{}, {}] {}".format(*cells, unit)


_TABLES = {
    "race": _race,
    "startup": _startup,
    "graphs": _graphs,
    "iterations": _iterations,
    "tasks": _tasks,
    "figures": _figures,
}


def _graph_history(history):
    lines = ["History:", "", "| date | commit | ours, CPU s | central path / ours | SHD, mean |"]
    lines.append("|---|---|---|---|---|")
    for document, record in history:
        rows = dict(zip((entry["role"] for entry in record["solvers"]), summarise_graphs(record)))
        ours = rows.get("ours")
        if ours is None or ours["cpu"] is None:
            continue
        lines.append(
            f"| {document['date'][:10]} | `{document['commit']}` | {_range(ours['cpu'])} "
            f"| {_times(ours['speedup'])} | {_mean(ours['worth'].get('shd'), '.1f')} |"
        )
    return [*lines, ""]


def _task_history(history):
    lines = ["History:", "", "| date | commit | ours, CPU | this / ours |", "|---|---|---|---|"]
    for document, record in history:
        rows = summarise_tasks(record)
        ours = next(
            (row for entry, row in zip(record["solvers"], rows) if entry["ours"]), {"cpu": None}
        )
        ratios = "; ".join(
            f"{entry['name']} {_times(row['ratio'])}" for entry, row in _compared(record, rows)
        )
        lines.append(
            f"| {document['date'][:10]} | `{document['commit']}` | {_durations(ours['cpu'])} "
            f"| {ratios} |"
        )
    return [*lines, ""]


def _history(history):
    if history[-1][1]["kind"] == "graphs":
        return _graph_history(history)
    if history[-1][1]["kind"] == "tasks":
        return _task_history(history)
    if history[-1][1]["kind"] != "race":
        return []
    lines = [
        "History:",
        "",
        "| date | commit | ours, s | fastest peer | ours / fastest peer |",
        "|---|---|---|---|---|",
    ]
    for document, record in history:
        summary = summarise(record)
        rows = {row["name"]: row for row in summary["solvers"]}
        ours = rows[summary["ours"]][record["clock"]] if summary["ours"] else {"spread": None}
        best = rows[summary["best"]] if summary["best"] else {"ratio": None}
        lines.append(
            f"| {document['date'][:10]} | `{document['commit']}` | {_seconds(ours)} "
            f"| {summary['best'] or 'none'} | {_ratio(best['ratio'], record['repeats'])} |"
        )
    return [*lines, ""]


def _solver_name(document, entry):
    distribution = entry["distribution"]
    version = document["versions"].get(distribution)
    name = entry["name"]
    if version:
        name = name.replace(distribution, f"{distribution} {version}", 1)
    return f"**{name}**" if entry["ours"] else name


def _status(entry):
    if entry["status"] == "not installed":
        return "not installed"
    return "error: " + entry["error"].replace("|", "\\|")


def _seconds(reading):
    return "not reached" if reading["spread"] is None else _range(reading["spread"])


def _spread(values):
    return _range(spread(values)) if values else "none"


def _range(values):
    return f"{_time(values['median'])} [{_time(values['min'])}, {_time(values['max'])}]"


def _ratio(ratio, repeats):
    if ratio is None:
        return ""
    text = f"{ratio['median']:.2f} [{ratio['min']:.2f}, {ratio['max']:.2f}]"
    return text if ratio["count"] == repeats else f"{text}, {ratio['count']} of {repeats} repeats"


def _times(ratio):
    if ratio is None:
        return ""
    parts = [_factor(ratio[name]) for name in ("median", "min", "max")]
    return f"{parts[0]} [{parts[1]}, {parts[2]}]"


def _factor(ratio):
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _mean(values, form):
    value = mean(values or [])
    return "" if value is None else f"{value:{form}}"


def _time(seconds):
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def _size(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
