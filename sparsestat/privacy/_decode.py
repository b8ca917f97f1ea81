"""Sums over reports and products with directions, on whatever holds the input."""

import threading

import numpy as np

from sparsestat.utils._arrays import get_namespace, kernels_for, use_array_api
from sparsestat.utils._threads import run_in_threads, thread_ranges

# Entries of directions that a thread makes before it returns, within milliseconds.
_WORK = 2**24


def decode_reports(nonces, bits, keys, dim, *, spherical=False, n_jobs=None):
    """Add up the directions of reports, each with the sign that its bit gives.

    Parameters
    ----------
    nonces : array of uint64 of shape (n_reports,)
        Public numbers of the reports. Device arrays are taken.
    bits : array of uint32 of shape (n_reports,)
        Bit number k of each belongs to ``keys[k]``; 1 is plus, 0 is minus.
    keys : ndarray of uint64 of shape (n_bits,)
        From :func:`sparsestat.privacy._directions.direction_keys`, on the host.
    dim : int
        Length of a direction.
    spherical : bool, default=False
        Whether the directions are on the sphere.
    n_jobs : int or None, default=None
        Number of threads on the host. The sums are the same integers for any.

    Returns
    -------
    sums : array of int64 of shape (dim,)
        On the device of the reports.

    Raises
    ------
    TypeError
        For arrays of two libraries or devices.
    ValueError
        If there is not one mask of bits for each nonce.

    Notes
    -----
    An entry of a direction is at most 32 in size, or `SPHERICAL_GRID` on the sphere; the sums
    are exact for up to 2**58 or 2**39 bits.
    """
    dim = int(dim)
    if use_array_api(nonces, bits):
        kernels, xp = kernels_for("sparsestat.privacy", nonces, bits)
        device = get_namespace(nonces, bits)[1]
        _check_lengths(nonces, bits=bits)
        sums = xp.zeros(dim, dtype=xp.int64, device=device)
        return kernels.decode(nonces, bits, keys, dim, spherical, sums)
    nonces, bits = np.asarray(nonces), np.asarray(bits)
    _check_lengths(nonces, bits=bits)
    keys = _kernel_array(keys, np.uint64)
    sums = np.zeros(dim, dtype=np.int64)
    lock = threading.Lock()
    kernels, _ = kernels_for("sparsestat.privacy", nonces, bits)

    def decode_range(limits):
        part = slice(*limits)
        nonce, mask = _kernel_array(nonces[part], np.uint64), _kernel_array(bits[part], np.uint32)
        private = np.zeros(dim, dtype=np.int64)
        kernels.decode(nonce, mask, keys, dim, bool(spherical), private)
        # Integers: the order of the threads does not matter.
        with lock:
            np.add(sums, private, out=sums)

    # Adding what a range found is not to cost more than a tenth of finding it.
    run_in_threads(decode_range, _ranges(len(nonces), dim * len(keys), least=10), n_jobs)
    return sums


def project_rows(V, nonces, keys, *, spherical=False, n_jobs=None):
    """Products of vectors with the directions of their reports, on the host.

    Parameters
    ----------
    V : ndarray of shape (n_reports, dim)
        The vectors.
    nonces : ndarray of uint64 of shape (n_reports,)
        Public numbers of the reports.
    keys : ndarray of uint64 of shape (n_bits,)
        From :func:`sparsestat.privacy._directions.direction_keys`.
    spherical : bool, default=False
        Whether the directions are on the sphere.
    n_jobs : int or None, default=None
        Number of threads, which changes no bit of the result.

    Returns
    -------
    products : ndarray of float64 of shape (n_reports, n_bits)
    """
    from sparsestat.privacy import _kernels

    V, nonces, keys = np.asarray(V), np.asarray(nonces), _kernel_array(keys, np.uint64)
    _check_lengths(nonces, V=V)
    products = np.empty((len(V), len(keys)))

    def project(limits):
        part = slice(*limits)
        rows, nonce = _kernel_array(V[part], np.float64), _kernel_array(nonces[part], np.uint64)
        _kernels.project_rows(rows, nonce, keys, bool(spherical), products[part])

    run_in_threads(project, _ranges(len(V), V.shape[1] * len(keys)), n_jobs)
    return products


def project_moments(X, y, nonces, keys, *, spherical=False, n_jobs=None):
    """Products of ``(svec(x x'), x y)`` with the directions of their reports, on the host.

    Only the moments of one record for each thread are held at a time.

    Parameters
    ----------
    X : ndarray of shape (n_reports, n_columns)
        Clipped features.
    y : ndarray of shape (n_reports,)
        Clipped targets, times the weight `gamma` of the cross moments.
    nonces : ndarray of uint64 of shape (n_reports,)
        Public numbers of the reports.
    keys : ndarray of uint64 of shape (n_bits,)
        From :func:`sparsestat.privacy._directions.direction_keys`.
    spherical : bool, default=False
        Whether the directions are on the sphere.
    n_jobs : int or None, default=None
        Number of threads, which changes no bit of the result.

    Returns
    -------
    products : ndarray of float64 of shape (n_reports, n_bits)
    """
    from sparsestat.privacy import _kernels

    X, y, nonces = np.asarray(X), np.asarray(y), np.asarray(nonces)
    _check_lengths(nonces, X=X, y=y)
    keys = _kernel_array(keys, np.uint64)
    products = np.empty((len(X), len(keys)))
    dim = X.shape[1] * (X.shape[1] + 3) // 2

    def project(limits):
        part = slice(*limits)
        rows, target = _kernel_array(X[part], np.float64), _kernel_array(y[part], np.float64)
        nonce, vector = _kernel_array(nonces[part], np.uint64), np.empty(dim)
        _kernels.project_moments(rows, target, nonce, keys, bool(spherical), vector, products[part])

    run_in_threads(project, _ranges(len(X), dim * len(keys)), n_jobs)
    return products


def _ranges(n_reports, entries, least=1):
    """Ranges of reports, which depend on the size of the problem alone."""
    reports = max(least, _WORK // max(entries, 1))
    return thread_ranges(n_reports, max(1, -(-n_reports // reports)))


def _kernel_array(values, dtype):
    # Writable even where it is only read, as numba compiles anew for read-only arrays.
    return np.require(values, dtype, ["C_CONTIGUOUS", "WRITEABLE"])


def _check_lengths(nonces, **arrays):
    for name, array in arrays.items():
        if array.shape[0] != nonces.shape[0]:
            raise ValueError(
                f"{name} must have one row for each of the {nonces.shape[0]} nonces, got "
                f"{array.shape[0]}."
            )
