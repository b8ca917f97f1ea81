"""Directions and their sums: the same integers from NumPy, numba and the array API."""

import math
import platform
import re
import struct
import subprocess
import sys
import tracemalloc
from hashlib import blake2b

import numba
import numpy as np
import pytest

import sparsestat
from sparsestat.privacy import _decode, _kernels, _kernels_xp
from sparsestat.privacy._decode import decode_reports, project_moments, project_rows
from sparsestat.privacy._directions import (
    GOLDEN,
    SPHERICAL_GRID,
    direction_keys,
    directions,
    mix64,
)

WORD = 2**64
FINGERPRINT = bytes(range(16))
SHAPES = pytest.mark.parametrize(
    ("n_reports", "dim", "n_bits"),
    [(5, 7, 1), (4, 1, 3), (0, 6, 2), (1, 2, 1), (9, 65, 32), (40, 20, 2)],
)
SPHERICAL = pytest.mark.parametrize("spherical", [False, True], ids=["binomial", "sphere"])


def reference_mix64(x):
    """The finaliser in Python's integers, reduced after every step."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def reference_direction(nonce, key, dim, spherical):
    state = reference_mix64(nonce ^ key)
    words = [reference_mix64((state + (j + 1) * GOLDEN) % WORD) for j in range(dim)]
    if spherical:
        odd = [2 * (word >> 1).bit_count() - 63 for word in words]
        norm = math.sqrt(sum(o * o for o in odd))
        return [round(o * 2**24 / norm) for o in odd]
    return [1] if dim == 1 else [word.bit_count() - 32 for word in words]


def reference_sums(nonces, bits, keys, dim, spherical):
    sums = [0] * dim
    for nonce, mask in zip(nonces.tolist(), bits.tolist(), strict=True):
        for k, key in enumerate(keys.tolist()):
            sign = 1 if mask >> k & 1 else -1
            for j, z in enumerate(reference_direction(nonce, key, dim, spherical)):
                sums[j] += sign * z
    return sums


def make_reports(n_reports, n_bits, seed=0):
    """Random reports, beginning with the smallest and the largest nonce."""
    rng = np.random.default_rng(seed)
    nonces = rng.integers(0, WORD, n_reports, dtype=np.uint64)
    nonces[:2] = np.array([0, WORD - 1], dtype=np.uint64)[:n_reports]
    bits = rng.integers(0, 2**n_bits, n_reports).astype(np.uint32)
    return nonces, bits, direction_keys(FINGERPRINT, 3, n_bits)


# --- the numbers themselves ----------------------------------------------------------------


def test_published_outputs_of_splitmix64():
    states = np.array([1234567 + (j + 1) * GOLDEN for j in range(3)], dtype=object) % WORD
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert mix64(states.astype(np.uint64)).tolist() == published


def test_mix64_of_extremes_and_scalars():
    values = [0, 1, 2**31, 2**63, WORD - 1]
    assert mix64(values).tolist() == [reference_mix64(value) for value in values]
    # One number would overflow with a warning, which is an error here.
    assert int(mix64(np.uint64(WORD - 1))) == reference_mix64(WORD - 1)
    given = np.array([5], dtype=np.uint64)
    mix64(given)
    assert given.tolist() == [5]


def test_popcount_and_mix64_of_the_kernels():
    values = [0, 1, 2**63, WORD - 1, *(reference_mix64(i) for i in range(50))]
    for value in values:
        assert _kernels.popcount(np.uint64(value)) == value.bit_count()
        assert int(_kernels.mix64(np.uint64(value))) == reference_mix64(value)


def test_norm_of_the_kernels():
    state = 77
    odd = [2 * (reference_mix64((state + (j + 1) * GOLDEN) % WORD) >> 1).bit_count() - 63
           for j in range(9)]  # fmt: skip
    assert _kernels.spherical_norm(np.uint64(state), 9) == math.sqrt(sum(o * o for o in odd))


def test_keys_are_hashes_of_fingerprint_round_and_bit():
    keys = direction_keys(FINGERPRINT, 258, 3)
    assert keys.dtype == np.uint64
    for k, key in enumerate(keys.tolist()):
        digest = blake2b(FINGERPRINT + struct.pack("<QQ", 258, k)).digest()
        assert key == struct.unpack("<Q", digest[:8])[0]
    others = [direction_keys(FINGERPRINT, 259, 3), direction_keys(bytes(16), 258, 3)]
    assert len(set(np.concatenate([keys, *others]).tolist())) == 9


@SPHERICAL
@SHAPES
def test_directions_are_those_of_python(n_reports, dim, n_bits, spherical):
    nonces, _, keys = make_reports(n_reports, n_bits)
    z = directions(nonces, keys, dim, spherical)
    assert z.shape == (n_reports, n_bits, dim) and z.dtype == np.int64
    for i, nonce in enumerate(nonces.tolist()):
        for k, key in enumerate(keys.tolist()):
            assert z[i, k].tolist() == reference_direction(nonce, key, dim, spherical)


def test_directions_have_binomial_entries():
    # Consecutive nonces, which a weak mixer would show. Each tolerance is 4.5 standard errors.
    n, dim = 20_000, 12
    z = directions(np.arange(n, dtype=np.uint64), direction_keys(FINGERPRINT, 0, 2), dim)
    counts = np.bincount(z.ravel() + 32, minlength=65)
    total = z.size
    probability = np.array([math.comb(64, k) / 2**64 for k in range(65)])
    assert abs(z.mean()) <= 4.5 * 4 / math.sqrt(total)
    fourth = float(probability @ (np.arange(65) - 32.0) ** 4)
    assert abs(np.mean(z**2) - 16) <= 4.5 * math.sqrt((fourth - 16**2) / total)
    # Classes of at least twenty; chi-squared with f degrees has variance 2 f.
    large = total * probability > 20
    tail = total * probability[~large].sum()
    expected = np.append(total * probability[large], tail)
    observed = np.append(counts[large], counts[~large].sum())
    chi2 = float(np.sum((observed - expected) ** 2 / expected))
    freedom = len(expected) - 1
    assert abs(chi2 - freedom) <= 4.5 * math.sqrt(2 * freedom)


def test_mean_size_of_an_entry_is_that_of_a_normal_one_but_for_four_in_a_thousand():
    exact = sum(abs(k - 32) * math.comb(64, k) for k in range(65)) / 2**64
    assert exact == 32 * math.comb(64, 32) / 2**64
    assert exact / 4 / math.sqrt(2 / math.pi) == pytest.approx(0.9961, abs=5e-5)
    z = directions(np.arange(20_000, dtype=np.uint64), direction_keys(FINGERPRINT, 0, 1), 12)
    error = math.sqrt((16 - exact**2) / z.size)
    assert abs(np.mean(np.abs(z)) - exact) <= 4.5 * error


@SPHERICAL
def test_entries_bits_and_neighbours_are_uncorrelated(spherical):
    n, dim = 20_000, 12
    keys = direction_keys(FINGERPRINT, 0, 2)
    z = directions(np.arange(n, dtype=np.uint64), keys, dim, spherical).astype(float)
    columns = np.concatenate([z[1:, 0], z[1:, 1], z[:-1, 0]], axis=1)
    correlations = np.corrcoef(columns.T) - np.eye(3 * dim)
    # The largest of 630 pairs: the normal law puts 4e-4 beyond five standard errors in all.
    assert np.max(np.abs(correlations)) <= 5 / math.sqrt(n)


@pytest.mark.parametrize("dim", [1, 2, 3, 50])
def test_spherical_directions_are_unit_vectors_without_zeros(dim):
    n = 4000
    z = directions(np.arange(n, dtype=np.uint64), direction_keys(FINGERPRINT, 0, 1), dim, True)
    norms = np.linalg.norm(z[:, 0] / SPHERICAL_GRID, axis=1)
    # An entry is rounded by half a step at most.
    assert np.max(np.abs(norms - 1)) <= 0.5 * math.sqrt(dim) / SPHERICAL_GRID * 1.01
    assert np.all(z != 0)
    # Isotropic: each squared entry has mean 1 / dim and, on the sphere, variance below 2 / dim**2.
    squares = np.mean((z[:, 0] / SPHERICAL_GRID) ** 2, axis=0)
    assert np.max(np.abs(squares - 1 / dim)) <= 5 * math.sqrt(2) / dim / math.sqrt(n) + 1e-7


# --- sums ----------------------------------------------------------------------------------


@SPHERICAL
@SHAPES
def test_sums_are_those_of_python(n_reports, dim, n_bits, spherical):
    nonces, bits, keys = make_reports(n_reports, n_bits)
    sums = decode_reports(nonces, bits, keys, dim, spherical=spherical)
    assert sums.dtype == np.int64
    assert sums.tolist() == reference_sums(nonces, bits, keys, dim, spherical)


@SPHERICAL
@SHAPES
def test_twin_finds_the_same_integers(xp, n_reports, dim, n_bits, spherical):
    nonces, bits, keys = make_reports(n_reports, n_bits)
    arrays = xp.asarray(nonces), xp.asarray(bits)
    before = xp.syncs
    sums = decode_reports(*arrays, keys, dim, spherical=spherical)
    assert xp.syncs == before
    xp.assert_native(sums)
    xp.assert_twin_ran()
    assert sums.dtype == xp.int64
    expected = reference_sums(nonces, bits, keys, dim, spherical)
    assert xp.to_numpy(sums).tolist() == expected


@SPHERICAL
def test_twin_in_chunks(xp, monkeypatch, spherical):
    monkeypatch.setattr(_kernels_xp, "CHUNK", 100)
    nonces, bits, keys = make_reports(101, 3)
    for dim in (1, 30, 130):
        z = directions(nonces, keys, dim, spherical)
        signs = 2 * ((bits[:, None] >> np.arange(3, dtype=np.uint32)) & 1).astype(np.int64) - 1
        expected = np.sum(signs[:, :, None] * z, axis=(0, 1))
        sums = decode_reports(xp.asarray(nonces), xp.asarray(bits), keys, dim, spherical=spherical)
        assert xp.to_numpy(sums).tolist() == expected.tolist()


@SPHERICAL
def test_memory_of_the_twin_is_bounded(spherical):
    nonces, bits, keys = make_reports(2500, 1)
    with sparsestat.config_context(backend="array_api"):
        tracemalloc.start()
        decode_reports(nonces, bits, keys, 1325, spherical=spherical)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # All directions at once would take 25 MiB for each of about seven temporary arrays.
    assert peak < 64 * 2**20


def test_kernel_and_twin_have_one_signature_and_add():
    nonces, bits, keys = make_reports(6, 2)
    expected = 10 + np.array(reference_sums(nonces, bits, keys, 5, False))
    for kernels in (_kernels, _kernels_xp):
        out = np.full(5, 10, dtype=np.int64)
        assert kernels.decode(nonces, bits, keys, 5, False, out) is not None
        assert out.tolist() == expected.tolist()


@SPHERICAL
@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_threads_splits_and_orders_change_nothing(monkeypatch, n_jobs, spherical):
    nonces, bits, keys = make_reports(3001, 2)
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((3001, 4)), rng.standard_normal(3001)

    def everything(order):
        arguments = nonces[order], keys
        return (
            decode_reports(nonces[order], bits[order], keys, 14, spherical=spherical,
                           n_jobs=n_jobs),
            project_rows(X[order], *arguments, spherical=spherical, n_jobs=n_jobs),
            project_moments(X[order], y[order], *arguments, spherical=spherical, n_jobs=n_jobs),
        )  # fmt: skip

    whole = everything(np.arange(3001))
    # Small enough for thirty ranges.
    monkeypatch.setattr(_decode, "_WORK", 2800)
    assert len(_decode._ranges(3001, 28)) > 30
    for split, one in zip(everything(np.arange(3001)), whole, strict=True):
        assert np.array_equal(split, one)
    shuffled = rng.permutation(3001)
    sums, rows, moments = everything(shuffled)
    assert np.array_equal(sums, whole[0])
    assert np.array_equal(rows, whole[1][shuffled])
    assert np.array_equal(moments, whole[2][shuffled])


def test_ranges_depend_on_the_size_alone():
    assert _decode._ranges(0, 100) == []
    assert _decode._ranges(10, 0) == [(0, 10)]
    assert _decode._ranges(10, 2**30) == [(i, i + 1) for i in range(10)]
    # The sums of a range are added to the others, so that it must not be a single report.
    assert _decode._ranges(100, 2**30, least=10)[0] == (0, 10)


def test_read_only_and_strided_columns_are_served():
    nonces, bits, keys = make_reports(20, 2)
    expected = decode_reports(nonces, bits, keys, 9)
    frozen = [np.frombuffer(column.tobytes(), dtype=column.dtype) for column in (nonces, bits)]
    assert not frozen[0].flags.writeable
    compiled = len(_kernels.decode.signatures)
    assert np.array_equal(decode_reports(*frozen, keys, 9), expected)
    wide = [np.repeat(column, 2)[::2] for column in (nonces, bits)]
    assert np.array_equal(decode_reports(*wide, keys, 9), expected)
    assert len(_kernels.decode.signatures) == compiled


# --- products ------------------------------------------------------------------------------


def moments_one_by_one(x, y):
    """In the order of the upper triangle, row by row, then the cross moments."""
    vector = []
    for a in range(len(x)):
        for b in range(a, len(x)):
            vector.append(x[a] * x[b] * (1.0 if a == b else math.sqrt(2.0)))
    return [*vector, *(value * y for value in x)]


@SPHERICAL
@pytest.mark.parametrize("n_columns", [1, 2, 7, 33])
def test_products_with_moments(n_columns, spherical):
    rng = np.random.default_rng(n_columns)
    nonces, _, keys = make_reports(15, 3)
    X, y = rng.standard_normal((15, n_columns)), rng.standard_normal(15)
    V = np.array([moments_one_by_one(*record) for record in zip(X, y, strict=True)])
    dim = n_columns * (n_columns + 3) // 2
    assert V.shape == (15, dim)
    z = directions(nonces, keys, dim, spherical)
    expected = [[math.fsum(z[i, k] * V[i]) for k in range(3)] for i in range(15)]
    scale = np.sum(np.abs(z * V[:, None]), axis=2)
    for found in (
        project_moments(X, y, nonces, keys, spherical=spherical),
        project_rows(V, nonces, keys, spherical=spherical),
    ):
        assert found.shape == (15, 3) and found.dtype == np.float64
        # Sums of dim products in any order, of numbers rounded thrice.
        assert np.all(np.abs(found - expected) <= (dim + 3) * 2.0**-52 * scale)


def test_products_in_one_dimension():
    nonces, _, keys = make_reports(5, 2)
    V = np.linspace(-1, 1, 5)[:, None]
    assert np.array_equal(project_rows(V, nonces, keys), np.repeat(V, 2, axis=1))
    assert np.array_equal(np.sign(project_rows(V, nonces, keys, spherical=True)),
                          np.sign(V * directions(nonces, keys, 1, True)[:, :, 0]))  # fmt: skip


def test_products_of_no_records():
    nonces, _, keys = make_reports(0, 2)
    assert project_rows(np.empty((0, 3)), nonces, keys).shape == (0, 2)
    assert project_moments(np.empty((0, 3)), np.empty(0), nonces, keys).shape == (0, 2)


# --- errors, memory, machine code ----------------------------------------------------------


def test_columns_must_have_one_length():
    nonces, bits, keys = make_reports(5, 1)
    with pytest.raises(ValueError, match=r"bits must have one row .* 5 nonces, got 4"):
        decode_reports(nonces, bits[:4], keys, 3)
    with pytest.raises(ValueError, match=r"V must have one row .* 5 nonces, got 2"):
        project_rows(np.zeros((2, 3)), nonces, keys)
    with pytest.raises(ValueError, match=r"y must have one row .* 5 nonces, got 6"):
        project_moments(np.zeros((5, 3)), np.zeros(6), nonces, keys)


def test_columns_of_the_twin_must_have_one_length(xp):
    nonces, bits, keys = make_reports(5, 1)
    with pytest.raises(ValueError, match="bits must have one row"):
        decode_reports(xp.asarray(nonces), xp.asarray(bits[:4]), keys, 3)


def test_libraries_are_not_mixed():
    array_api_strict = pytest.importorskip("array_api_strict")
    nonces, bits, keys = make_reports(5, 1)
    with pytest.raises(TypeError, match="array_api_strict and numpy"):
        decode_reports(array_api_strict.asarray(nonces), bits, keys, 3)


@SPHERICAL
def test_nothing_is_allocated(count_allocations, spherical):
    nonces, bits, keys = make_reports(10, 2)
    X, y, out = np.ones((10, 4)), np.ones(10), np.empty((10, 2))
    sums, vector = np.zeros(14, dtype=np.int64), np.empty(14)
    assert count_allocations(_kernels.decode, nonces, bits, keys, 14, spherical, sums) == 0
    assert count_allocations(_kernels.project_rows, X, nonces, keys, spherical, out) == 0
    arguments = X, y, nonces, keys, spherical, vector, out
    assert count_allocations(_kernels.project_moments, *arguments) == 0


def assembly_of(cached, *arguments):
    # Code that came from the cache cannot be inspected, so it is compiled anew.
    options = {k: v for k, v in cached.targetoptions.items() if k not in ("cache", "nopython")}
    function = numba.njit(**options)(cached.py_func)
    function(*arguments)
    return function.inspect_asm(function.signatures[0])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="patterns are of x86")
def test_machine_code_is_vectorised():
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("avx2", False):
        pytest.skip("64-bit multiplications are vectorised from AVX2 on")
    nonces, bits, keys = make_reports(3, 1)
    loops = {
        "decode": assembly_of(_kernels.decode, nonces, bits, keys, 9, False,
                              np.zeros(9, dtype=np.int64)),
        "project_row": assembly_of(_kernels.project_row, np.ones(9), np.uint64(1), False),
    }  # fmt: skip
    for name, assembly in loops.items():
        multiplications = re.findall(r"\bvpmul(?:lq|udq)\b.*[yz]mm", assembly)
        counts = re.findall(r"\bvp(?:opcnt[bdq]|shufb)\b.*[yz]mm", assembly)
        # Two for the entry of a direction, one count of its ones; norms have loops of their own.
        assert len(multiplications) >= 6 and len(counts) >= 3, name
    assert re.search(r"\bv(?:div)pd\b.*[yz]mm", loops["decode"])
    assert re.search(r"\bv(?:fmadd\d+|mul)pd\b.*[yz]mm", loops["project_row"])


def test_the_client_needs_numpy_alone():
    code = (
        "import sys; import sparsestat.privacy._directions as d; d.direction_keys(bytes(16), 0, 2);"
        "print(sorted({'scipy', 'sklearn', 'numba', 'joblib', 'array_api_compat'}"
        " & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
