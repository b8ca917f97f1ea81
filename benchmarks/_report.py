"""Records of measurements: saved as JSON, kept as history, rendered as Markdown."""

import json
from pathlib import Path

from ._environment import ROOT
from ._measure import MAX_EXTRAPOLATION, MEBIBYTE, spread, summarise

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
        lines += (
            _startup(document, record) if record["kind"] == "startup" else _race(document, record)
        )
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


def _history(history):
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


def _time(seconds):
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def _size(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
