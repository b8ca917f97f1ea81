"""What is compiled in the test of the cache is all that there is."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sparsestat"

# Interpreted, the loops are functions like any other, which a profiler sees. What the type of an
# argument chooses when they are compiled has to be chosen here.
CALLED = """
import json, runpy, sys, threading
from sparsestat.dag import _kernels
from sparsestat.dag._state import ParentCountProblem
def solve_node(*args):
    counts = any(isinstance(argument, ParentCountProblem) for argument in args)
    return (_kernels.bic_node if counts else _kernels.lasso_node)(*args)
_kernels.solve_node = solve_node
found = set()
def profile(frame, event, argument):
    if event == "call" and "_kernels" in frame.f_code.co_filename:
        found.add((frame.f_code.co_filename, frame.f_code.co_name))
threading.setprofile(profile)
sys.setprofile(profile)
runpy.run_path(sys.argv[1])
sys.setprofile(None)
print(json.dumps(sorted(found)))
"""


def compiled_functions(path):
    """Names of the functions of a file that are compiled."""
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if "jit" in ast.unparse(decorator)
    }


def test_compiled_functions_are_found():
    assert {"exp_inplace", "exp_rows"} <= compiled_functions(PACKAGE / "utils" / "_kernels.py")
    assert compiled_functions(PACKAGE / "utils" / "_kernels_xp.py") == set()


@pytest.mark.parametrize(("room", "n_kernels"), [("dag", 21), ("privacy", 7), ("transport", 43)])
def test_the_workload_reaches_every_kernel(room, n_kernels):
    result = subprocess.run(
        [sys.executable, "-c", CALLED, f"tests/utils/workloads/{room}.py"],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    called = {(Path(path).name, name) for path, name in json.loads(result.stdout)}
    kernels = {
        (path.name, name)
        for path in (PACKAGE / room).glob("_kernels*.py")
        for name in compiled_functions(path)
    }
    assert len(kernels) >= n_kernels
    assert kernels - called == set()
