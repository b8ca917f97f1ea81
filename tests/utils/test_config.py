import os
import subprocess
import sys
import threading

import pytest

import sparsestat
from sparsestat import config_context, get_config, set_config


@pytest.fixture(autouse=True)
def restored():
    with config_context():
        yield


def test_set_config_changes_what_get_config_returns():
    set_config(backend="numba")
    assert get_config() == {"backend": "numba"}
    set_config()
    assert get_config() == {"backend": "numba"}


def test_get_config_returns_a_copy():
    get_config()["backend"] = "nonsense"
    assert get_config()["backend"] == "auto"


def test_context_restores_after_an_exception():
    with pytest.raises(ZeroDivisionError), config_context(backend="array_api"):
        set_config(backend="numba")
        raise ZeroDivisionError
    assert get_config()["backend"] == "auto"


def test_contexts_nest():
    with config_context(backend="array_api"):
        with config_context(backend="numba"):
            assert get_config()["backend"] == "numba"
        assert get_config()["backend"] == "array_api"


@pytest.mark.parametrize("backend", ["cuda", "AUTO", 1, ["auto"]])
def test_unknown_backend_is_refused_and_changes_nothing(backend):
    with pytest.raises(ValueError, match=r"backend must be one of .*'array_api'.*got"):
        set_config(backend=backend)
    with pytest.raises(ValueError, match="backend must be one of"), config_context(backend=backend):
        pass
    assert get_config()["backend"] == "auto"


def test_a_new_thread_starts_from_the_default():
    seen = []
    set_config(backend="numba")
    thread = threading.Thread(
        target=lambda: (seen.append(get_config()["backend"]), set_config(backend="array_api"))
    )
    thread.start()
    thread.join()
    assert seen == ["auto"]
    assert get_config()["backend"] == "numba"


def _in_process(backend):
    return subprocess.run(
        [sys.executable, "-c", "import sparsestat; print(sparsestat.get_config()['backend'])"],
        env={**os.environ, "SPARSESTAT_BACKEND": backend},
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.dirname(sparsestat.__file__)),
    )


def test_environment_variable_sets_the_default():
    assert _in_process("array_api").stdout.strip() == "array_api"


def test_environment_variable_is_checked():
    result = _in_process("abacus")
    assert result.returncode != 0
    assert "SPARSESTAT_BACKEND must be one of" in result.stderr
