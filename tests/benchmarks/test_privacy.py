"""The problems of the private family."""

import numpy as np
import pytest

from benchmarks import _figures, _peers, _privacy_tables, _tasks, privacy
from benchmarks._figures import FigureTable
from benchmarks._tasks import TaskRace
from sparsestat.privacy import LDPConfig
from sparsestat.privacy._decode import decode_reports


@pytest.fixture(scope="module")
def batch():
    return privacy._batch(LDPConfig("moments", n_features=6), 700)


def test_problems_of_the_family():
    for quick in (False, True):
        problems = privacy.problems(quick=quick)
        keys = [problem.key for problem in problems]
        assert len(set(keys)) == len(keys)
        assert {"decode", "encode", "error", "rate", "price", "flights", "startup"} <= set(keys)


def test_aims_are_those_of_the_full_run():
    tables = {problem.key: problem for problem in privacy.problems()}
    aims = {
        (setting.name, method.name): method.aim[1]
        for setting in tables["error"].settings
        for method in setting.methods
        if method.aim != (None, None)
    }
    assert sorted(aims.values()) == [0.13, 0.2, 0.28]
    assert list(tables["rate"].slopes.values()) == [(-0.62, -0.42)]
    for table in privacy.problems(quick=True):
        if isinstance(table, FigureTable) and table.key != "state":
            methods = [method for setting in table.settings for method in setting.methods]
            assert not table.slopes and {method.aim for method in methods} == {(None, None)}


def test_directions_of_blocks_are_those_of_the_reports(batch):
    dim = batch.config.dim
    sums = decode_reports(batch.nonces, batch.payload, privacy._keys(batch.config), dim)
    np.testing.assert_array_equal(privacy._decode_by_blocks(batch, 700), sums)


def test_regenerated_directions_are_normal_with_the_signs_of_the_bits(batch):
    total = privacy._decode_by_generators(batch, 700)
    parts = privacy._decode_by_generators(batch, 300) + privacy._decode_by_generators(
        batch[300:], 400
    )
    np.testing.assert_allclose(total, parts, atol=1e-10)
    # A sum of 700 normal numbers with variance one; six standard deviations.
    assert np.abs(total).max() < 6 * np.sqrt(700)
    assert np.abs(total).max() > 1


def test_the_check_of_the_integers_can_fail(batch, monkeypatch):
    assert "700" in privacy._same_integers(batch, 2, 700)()
    monkeypatch.setattr(
        privacy, "_decode_by_blocks", lambda batch, n: np.ones(batch.config.dim, dtype=np.int64)
    )
    with pytest.raises(AssertionError, match="differ from those of numpy"):
        privacy._same_integers(batch, 2, 700)()


def test_data_have_public_rows_that_are_not_the_records():
    data = _privacy_tables.draw_regression(50, 4, n_public=50)(3)
    assert data.public.shape == data.data.shape
    assert np.abs(np.corrcoef(data.public.ravel(), data.data.ravel())[0, 1]) < 0.5
    again = _privacy_tables.draw_regression(50, 4, n_public=50)(3)
    np.testing.assert_array_equal(data.public, again.public)


def test_explained_variance_is_that_of_scikit_learn():
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(0)
    X, y, coef = rng.normal(size=(30, 3)), rng.normal(size=30), rng.normal(size=3)
    split = {"X_test": X, "y_test": y}
    assert _privacy_tables._explained(split, coef) == pytest.approx(r2_score(y, X @ coef))


def small(problem):
    """The first setting of a table with one seed and our methods, or our tasks."""
    setting = problem.settings[0]
    ours = tuple(method for method in setting.methods if method.ours)
    setting = _figures.Setting(setting.name, setting.draw, setting.seeds[:1], ours, setting.size)
    return FigureTable(**{**vars(problem), "settings": (setting,)})


@pytest.mark.filterwarnings("ignore::sparsestat.privacy.LowSignalWarning")
@pytest.mark.filterwarnings("ignore::sparsestat.privacy.IllConditionedWarning")
@pytest.mark.parametrize("key", ["error", "rate", "price", "state"])
def test_our_methods_run(key):
    table = {problem.key: problem for problem in privacy.problems(quick=True)}[key]
    record = _figures.run_figures(small(table), threads=1)
    assert record["solvers"]
    for entry in record["solvers"]:
        assert entry["error"] is None and len(entry["runs"]) == 1
        assert entry["runs"][0]["value"] is not None
    if key == "state":
        rows, _ = _figures.summarise_figures(record)
        assert all(row["reached"] for row in rows)


def test_clients_are_raced_one_by_one_and_together():
    (race,) = [problem for problem in privacy.problems(quick=True) if problem.key == "encode"]
    tasks = [task for task in race.build() if task.distribution == "sparsestat"]
    race = TaskRace(**{**vars(race), "build": lambda: tasks})
    memory = lambda call: (None, "unknown")  # noqa: E731
    record = _tasks.run_tasks(race, repeats=1, threads=1, memory=memory)
    assert [entry["error"] for entry in record["solvers"]] == [None] * 3
    # What is asked for: a report of at most 40 bytes.
    assert record["solvers"][0]["facts"]["bytes a report"] <= 40


def test_the_central_peer_gets_symmetric_bounds(monkeypatch):
    asked = []
    monkeypatch.setattr(_peers, "call", lambda *given, threads: asked.append((given, threads)))
    X, y = np.zeros((5, 2)), np.zeros(5)
    _privacy_tables._central(X, y, 7, 1, epsilon=0.5, X_bounds=4.0, y_bound=3.0)
    ((name, _, arrays, options), threads) = asked[0]
    assert (name, threads) == ("diffprivlib", 1)
    assert arrays["bounds"].tolist() == [4.0, 4.0]
    assert options == {"epsilon": 0.5, "y_bound": 3.0, "fit_intercept": False, "random_state": 7}
