"""Records, pages, and the command line."""

import copy
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks import _environment, _report, _startup


def race_record(ours=1.0, peer=2.0, **changes):
    def entry(name, seconds, **more):
        return {
            "name": name,
            "distribution": name,
            "ours": name == "ours",
            "threads": 1,
            "status": "ok",
            "error": None,
            "runs": [
                {
                    "tolerance": tol,
                    "cpu": [seconds * level, seconds * level],
                    "wall": [seconds * level, seconds * level],
                    "accuracy": [tol, tol],
                }
                for level, tol in ((1, 1e-4), (2, 1e-6), (3, 1e-8))
            ],
            "memory": {"tolerance": 1e-6, "bytes": 2**20, "how": "high-water mark"},
            **more,
        }

    record = {
        "kind": "race",
        "key": "path",
        "title": "A path",
        "description": "Described.",
        "target": 1e-6,
        "accuracy_name": "gap",
        "clock": "cpu",
        "threads": 1,
        "pools": ["openblas: 1"],
        "repeats": 2,
        "sizes": {"samples": 1000, "ratio": 0.01},
        "memory_limit": None,
        "solvers": [
            entry("ours", ours),
            entry("peer", peer),
            entry("gone", 1.0, status="not installed", memory=None, runs=[]),
            entry("broken", 1.0, status="error", error="TypeError: a | b", memory=None, runs=[]),
        ],
    }
    return {**record, **changes}


def document(*records, date="2030-01-02T03:04:05+00:00", commit="abc1234"):
    return {
        "family": "some_family",
        "date": date,
        "command": "python -m benchmarks some_family",
        "commit": commit,
        "uncommitted_changes": False,
        "python": "3.11.0",
        "system": "Linux",
        "cpu": "A CPU",
        "cores": 2,
        "load_before": 0.25,
        "versions": {
            "numpy": "2.0",
            "scipy": "1.0",
            "scikit-learn": "1.9",
            "numba": "0.6",
            "peer": "7.8",
        },
        "problems": list(records),
    }


def test_a_won_race():
    page = _report.render("some_family", [document(race_record())])
    assert "**Faster than the fastest peer, peer: ratio of times 0.50 [0.50, 0.50].**" in page
    assert "| peer 7.8 | 4 [4, 4] | 4 [4, 4] | between two settings | 0.50 [0.50, 0.50] |" in page
    assert "| gone | not installed |" in page
    assert "| broken | error: TypeError: a \\| b |" in page
    assert "| peer | 1e-08 | 1.0e-08 | 6 | 6 |" in page
    assert "samples 1,000, ratio 0.01" in page
    assert "commit `abc1234`" in page
    assert "openblas: 1" in page
    assert "2 repeats on 2030-01-02" in page
    assert "load 0.2 before the run" in page


def test_a_lost_race_is_shown_too():
    page = _report.render("some_family", [document(race_record(ours=3.0))])
    assert "**Slower than the fastest peer, peer: ratio of times 1.50 [1.50, 1.50].**" in page


def test_ours_failing_is_a_lost_race():
    record = race_record()
    record["solvers"][0].update(status="error", error="ValueError: no")
    page = _report.render("some_family", [document(record)])
    assert "**Lost to peer: ours did not finish" in page


def test_without_a_peer_there_is_no_comparison():
    record = race_record()
    record["solvers"][1]["status"] = "not installed"
    assert "**No comparison:" in _report.render("some_family", [document(record)])


@pytest.mark.parametrize("limit, verdict", [(2**21, "within"), (2**19, "**above**")])
def test_the_memory_limit_is_judged(limit, verdict):
    page = _report.render("some_family", [document(race_record(memory_limit=limit))])
    assert f"1.0 ({verdict} the limit of {limit / 2**20:.1f})" in page


def test_a_page_shows_the_newest_record_of_each_problem_and_the_history():
    old = document(race_record(ours=8.0), commit="0ld0ld0")
    new = document(race_record(ours=1.0), date="2030-02-01T00:00:00+00:00", commit="newnew0")
    other = document(
        race_record(key="other", title="Another path"), date="2030-03-01T00:00:00+00:00"
    )
    page = _report.render("some_family", [old, new, other])
    assert page.count("## ") == 2
    assert "**Faster than the fastest peer, peer: ratio of times 0.50" in page
    assert "| 2030-01-02 | `0ld0ld0` | 16 [16, 16] | peer | 4.00 [4.00, 4.00] |" in page
    assert "| 2030-02-01 | `newnew0` | 2 [2, 2] | peer | 0.50 [0.50, 0.50] |" in page
    assert page.count("History:") == 1


def test_a_family_without_records_has_a_page():
    assert "No run has been recorded yet" in _report.render("some_family", [])


def test_records_never_overwrite_each_other_and_come_back_in_order(tmp_path):
    later = document(race_record(), date="2030-01-02T23:00:00+00:00")
    earlier = document(race_record())
    paths = [_report.save(later, tmp_path), _report.save(earlier, tmp_path)]
    assert [path.name for path in paths] == ["2030-01-02-abc1234.json", "2030-01-02-abc1234-2.json"]
    assert _report.load_history("some_family", tmp_path) == [earlier, later]


def test_what_is_not_a_number_cannot_be_saved(tmp_path):
    broken = copy.deepcopy(document(race_record()))
    broken["problems"][0]["target"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        _report.save(broken, tmp_path)


def test_render_writes_a_page_for_every_family(tmp_path, monkeypatch):
    monkeypatch.setattr(_report, "PAGES", tmp_path / "pages")
    command_line.main(["render"])
    written = {path.stem for path in (tmp_path / "pages").glob("*.md")}
    assert written == set(command_line.families())
    assert "linear_model" in written


# --------------------------------------------------------------------------- starting


def test_startup_runs_programs_in_fresh_processes():
    startup = _startup.Startup(
        "startup",
        "Start",
        "Described.",
        (
            _startup.Program("good", "good", "numpy", "import math", "math.sqrt(X[0, 0] ** 2)"),
            _startup.Program("bad", "bad", "numpy", "import math", "math.sqrt('x')"),
            _startup.Program("gone", "gone", "no_such_module_anywhere", "", ""),
        ),
        n_samples=10,
        n_features=6,
    )
    record = _startup.run_startup(startup, repeats=1)
    good, bad, gone = record["programs"]
    assert good["status"] == "ok"
    for temperature in ("cold", "warm"):
        assert len(good[temperature]) == 1
        assert set(good[temperature][0]) == {"import", "fit"}
    assert bad["status"] == "error"
    assert bad["error"].startswith("TypeError")
    assert gone["status"] == "not installed"
    page = _report.render("some_family", [document(record)])
    assert "| bad | error: TypeError" in page
    assert "first fit, cache cold" in page
    json.dumps(record)


# --------------------------------------------------------------------------- command line


def test_requirements_are_picked_by_family(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# a comment\none==1  # first, second\ntwo>=2  # all\nthree # second\n")
    assert command_line.requirements(path, "first") == ["one==1", "two>=2"]
    assert command_line.requirements(path, "second") == ["one==1", "two>=2", "three"]


def test_install_pins_what_the_measurement_stands_on(monkeypatch):
    commands = []

    def run(command, check):
        assert check
        pins = ""
        if "--constraint" in command:
            pins = Path(command[command.index("--constraint") + 1]).read_text()
        commands.append((command, pins))

    monkeypatch.setattr(command_line.subprocess, "run", run)
    command_line.main(["install", "linear_model"])
    (plain, pins), (alone, _) = commands
    assert any(item.startswith("skglm==") for item in plain)
    assert "numpy==" in pins
    assert "scikit-learn==" in pins
    assert "--no-deps" in alone
    for name in ("adelie==", "celer==", "python-glmnet=="):
        assert any(item.startswith(name) for item in alone)
        assert not any(item.startswith(name) for item in plain)


def test_the_environment_drops_what_steers_openblas_and_sets_the_pools():
    before = {"OPENBLAS_CORETYPE": "X", "OPENBLAS_L2_SIZE": "1", "HOME": "/h"}
    after = _environment.measuring_environment(before, 2, "/cache")
    assert "OPENBLAS_CORETYPE" not in after
    assert "OPENBLAS_L2_SIZE" not in after
    assert after["HOME"] == "/h"
    assert after["NUMBA_CACHE_DIR"] == "/cache"
    assert after["OMP_NUM_THREADS"] == after["NUMBA_NUM_THREADS"] == "2"


def test_the_process_is_replaced_once(monkeypatch):
    replaced = []
    monkeypatch.setattr(_environment.os, "execve", lambda *call: replaced.append(call))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    _environment.enter_measuring_environment(["linear_model"], 2)
    ((_, arguments, wanted),) = replaced
    assert arguments[1:] == ["-m", "benchmarks", "linear_model"]
    monkeypatch.setattr(_environment.os, "environ", wanted)
    _environment.enter_measuring_environment(["linear_model"], 2)
    assert len(replaced) == 1


def test_the_record_describes_without_naming_the_computer():
    described = _environment.describe(["no-such-distribution"])
    assert described["versions"]["no-such-distribution"] is None
    assert described["versions"]["numpy"]
    assert set(described) == {
        "commit",
        "uncommitted_changes",
        "python",
        "system",
        "cpu",
        "cores",
        "versions",
    }


def test_unknown_problems_are_refused(monkeypatch):
    monkeypatch.setattr(_environment, "enter_measuring_environment", lambda *call: None)
    with pytest.raises(SystemExit, match="no problem nothing; there are dense_path"):
        command_line.main(["linear_model", "--quick", "--only", "nothing"])


def test_repeats_must_be_positive(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["linear_model", "--repeats", "0"])
    assert "at least 1" in capsys.readouterr().err
