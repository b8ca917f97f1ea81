"""How stable the edges of a learned graph are: bootstrap and stability selection."""

from numbers import Integral

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_array

from sparsestat.dag._colide import CoLiDE
from sparsestat.dag._graph import descendants
from sparsestat.dag._path import resolve_alphas, solve_path
from sparsestat.dag._problem import SEMProblem
from sparsestat.utils._arrays import (
    check_device_array,
    get_namespace,
    kernels_for,
    use_array_api,
)
from sparsestat.utils._moments import GramAccumulator
from sparsestat.utils._sklearn import _get_feature_names
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights

_LARGEST_SEED = 2**31 - 1
# Device memory for the rows of several resamples at once.
_BATCH_BYTES = 2**30


def bootstrap_edges(
    estimator,
    X,
    *,
    n_bootstrap=100,
    kind="pairs",
    block_length=None,
    quantiles=(0.05, 0.5, 0.95),
    sample_weight=None,
    n_jobs=None,
    random_state=None,
):
    """Learn the graph again on resampled rows, and count.

    Parameters
    ----------
    estimator : CoLiDE
        Its parameters are used; it is not changed.
    X : array-like of shape (n_samples, n_features)
        Data; sparse matrices are taken too. An array on a device (CuPy) is taken with
        ``solver="central-path"``: all resamples are then solved together on the device.
    n_bootstrap : int, default=100
        Number of resamples.
    kind : {"pairs", "block"}, default="pairs"
        Whether single rows are drawn, or runs of consecutive rows, for time series.
    block_length : int or None, default=None
        Length of a run; None is the cube root of the number of rows, rounded up.
    quantiles : sequence of float, default=(0.05, 0.5, 0.95)
        Levels at which quantiles of the weights are given.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        How often each row occurs. A row is drawn in proportion.
    n_jobs : int or None, default=None
        Number of joblib workers, threads unless :func:`joblib.parallel_config` says
        otherwise. It does not change the result.
    random_state : int, RandomState instance or None, default=None
        Draws the resamples.

    Returns
    -------
    result : Bunch
        With the following items, on the host.

        edge_frequency : ndarray of shape (n_features, n_features)
            Share of the resamples in which there is an edge from i to j.
        sign_agreement : ndarray of shape (n_features, n_features)
            Share of the more frequent sign among those; NaN without any.
        order_frequency : ndarray of shape (n_features, n_features)
            Share of the resamples in which i is an ancestor of j.
        weight_quantiles : ndarray of shape (n_quantiles, n_features, n_features)
            Quantiles of the weights, zero where there is no edge.
        weights : ndarray of shape (n_bootstrap, n_features, n_features)
            Adjacency matrices.
        quantiles : ndarray of shape (n_quantiles,)
            The levels.

    Raises
    ------
    TypeError
        For another estimator, or an array on a device with another solver.
    ValueError
        For a bad argument.

    Notes
    -----
    The quantiles describe how the procedure varies, threshold and shrinkage included; they
    are no confidence intervals, which are not valid after the edges were selected.

    Examples
    --------
    >>> from sparsestat.dag import CoLiDE, bootstrap_edges
    >>> from sparsestat.datasets import make_sem
    >>> model = make_sem(n_samples=1000, n_nodes=5, degree=1, random_state=0)
    >>> result = bootstrap_edges(CoLiDE(), model.data, n_bootstrap=20, random_state=0)
    >>> bool(result.edge_frequency[model.adjacency != 0].min() > 0.9)
    True
    """
    _check_arguments(estimator, n_bootstrap, "n_bootstrap")
    if kind not in ("pairs", "block"):
        raise ValueError(f"kind must be 'pairs' or 'block', got {kind!r}.")
    quantiles = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
    if quantiles.ndim != 1 or not np.all((quantiles >= 0) & (quantiles <= 1)):
        raise ValueError(f"quantiles must be levels between 0 and 1, got {quantiles}.")
    on_device = not hasattr(X, "tocsr") and use_array_api(X)
    if on_device and estimator.solver != "central-path":
        if not get_namespace(X)[2]:
            raise TypeError(
                "bootstrap_edges takes arrays on a device with solver='central-path' only; "
                "convert X to NumPy for solver='order'."
            )
        on_device = False
    rng = check_random_state(random_state)
    if on_device:
        n_rows = X.shape[0]
    else:
        X, names = _check_rows(X)
        n_rows = X.shape[0]
    weights = check_frequency_weights(sample_weight, np.empty((n_rows, 0)))
    length = _check_block_length(block_length, n_rows) if kind == "block" else 1
    seeds = rng.randint(_LARGEST_SEED, size=n_bootstrap)
    if on_device:
        counts = [draw_counts(n_rows, weights, length, seed) for seed in seeds]
        found = _on_device(estimator, X, counts, seeds)
    else:

        def learn(seed):
            counts = draw_counts(n_rows, weights, length, seed)
            return _learn(estimator, X, counts, seed, names)

        found = joblib.Parallel(n_jobs=n_jobs, prefer="threads")(
            joblib.delayed(learn)(seed) for seed in seeds
        )
    return _summary(np.array(found), quantiles)


def stability_selection(
    estimator,
    X,
    *,
    alphas=10,
    eps=1e-2,
    threshold=0.6,
    n_subsamples=50,
    n_jobs=None,
    random_state=None,
):
    """Select edges that are found on many random halves of the data, whatever the penalty.

    Parameters
    ----------
    estimator : CoLiDE
        Its parameters other than ``alpha`` are used; it is not changed.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data, at least four rows.
    alphas : int or array-like of shape (n_alphas,), default=10
        Penalties, or how many, on a logarithmic scale from the smallest one that lets no
        edge in.
    eps : float, default=1e-2
        Ratio of the last penalty to the first if ``alphas`` is a number.
    threshold : float, default=0.6
        Least share of the halves, above one half.
    n_subsamples : int, default=50
        Number of halves.
    n_jobs : int or None, default=None
        Number of joblib workers. It does not change the result.
    random_state : int, RandomState instance or None, default=None
        Draws the halves.

    Returns
    -------
    result : Bunch
        With the following items.

        selected : ndarray of bool of shape (n_features, n_features)
            Edges whose frequency reaches the threshold at some penalty. Both directions,
            or a cycle, may be among them if ``threshold`` is small.
        frequencies : ndarray of shape (n_features, n_features)
            Largest frequency of each edge over the penalties.
        frequency_path : ndarray of shape (n_alphas, n_features, n_features)
            Frequencies at each penalty.
        alphas : ndarray of shape (n_alphas,)
            Penalties, descending.
        mean_n_edges : float
            Mean number q of edges that a half selects at any penalty.
        false_positive_bound : float
            ``q^2 / ((2 threshold - 1) m)`` for m possible edges, which bounds the expected
            number of wrong edges if wrong ones are exchangeable and not more frequent than
            by chance [1]_. For directions this is an assumption, not a theorem.

    References
    ----------
    .. [1] Meinshausen, N. and Buehlmann, P. (2010). Stability selection. Journal of the
       Royal Statistical Society B 72, 417-473.

    Examples
    --------
    >>> from sparsestat.dag import CoLiDE, stability_selection
    >>> from sparsestat.datasets import make_sem
    >>> model = make_sem(n_samples=400, n_nodes=5, degree=1, random_state=0)
    >>> result = stability_selection(CoLiDE(), model.data, n_subsamples=10, random_state=0)
    >>> bool((result.selected >= (model.adjacency != 0)).all())
    True
    """
    _check_arguments(estimator, n_subsamples, "n_subsamples")
    if not 0.5 < threshold <= 1:
        raise ValueError(f"threshold must be above 0.5 and at most 1, got {threshold!r}.")
    if not 0 < eps < 1:
        raise ValueError(f"eps must be between 0 and 1, got {eps!r}.")
    X, names = _check_rows(X)
    n_rows = X.shape[0]
    if n_rows < 4:
        raise ValueError(f"X must have at least four rows to be halved, got {n_rows}.")
    with single_threaded_blas():
        problem = SEMProblem(estimator, GramAccumulator().update(X), names)
        alphas = resolve_alphas(alphas, eps, problem)

    def learn(seed):
        chosen = np.random.RandomState(seed).permutation(n_rows)[: n_rows // 2]
        counts = np.zeros(n_rows)
        counts[chosen] = 1.0
        model = clone(estimator).set_params(random_state=int(seed))
        with single_threaded_blas():
            half = SEMProblem(model, GramAccumulator().update(X, None, counts), names)
            return [at["adjacency_"] != 0 for at in solve_path(half, alphas)]

    seeds = check_random_state(random_state).randint(_LARGEST_SEED, size=n_subsamples)
    found = np.array(
        joblib.Parallel(n_jobs=n_jobs, prefer="threads")(
            joblib.delayed(learn)(seed) for seed in seeds
        )
    )
    path = found.mean(axis=0)
    frequencies = path.max(axis=0)
    mean_n_edges = float(found.any(axis=1).sum(axis=(1, 2)).mean())
    n_possible = np.count_nonzero(~problem.constraints.forbidden)
    return Bunch(
        selected=frequencies >= threshold,
        frequencies=frequencies,
        frequency_path=path,
        alphas=alphas,
        mean_n_edges=mean_n_edges,
        false_positive_bound=mean_n_edges**2 / ((2 * threshold - 1) * max(n_possible, 1)),
    )


def draw_counts(n_rows, weights, length, seed):
    """How often each row occurs in a resample.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    weights : ndarray of shape (n_rows,) or None
        How often each occurs in the data.
    length : int
        Number of consecutive rows that are drawn together; they wrap around the end.
    seed : int
        What the draw depends on.

    Returns
    -------
    counts : ndarray of shape (n_rows,)
        Their sum is that of the data, rounded to whole rows.
    """
    rng = np.random.RandomState(seed)
    total = n_rows if weights is None else max(round(float(weights.sum())), 2)
    n_blocks = -(-total // length)
    if weights is None:
        first = rng.randint(n_rows, size=n_blocks)
    else:
        first = rng.choice(n_rows, size=n_blocks, p=weights / weights.sum())
    rows = (first[:, None] + np.arange(length)).ravel()[:total] % n_rows
    return np.bincount(rows, minlength=n_rows).astype(np.float64)


def _check_arguments(estimator, count, name):
    if not isinstance(estimator, CoLiDE):
        raise TypeError(f"estimator must be a CoLiDE, got {type(estimator).__name__}.")
    estimator._validate_params()
    if not isinstance(count, Integral) or count < 1:
        raise ValueError(f"{name} must be a positive integer, got {count!r}.")


def _check_rows(X):
    """The data, and the names of their columns if they have any."""
    names = _get_feature_names(X)
    X = check_array(
        X,
        accept_sparse="csr",
        dtype=[np.float64, np.float32],
        ensure_min_samples=2,
        input_name="X",
    )
    return X, names


def _check_block_length(length, n_rows):
    if length is None:
        return int(np.ceil(n_rows ** (1 / 3)))
    if not isinstance(length, Integral) or not 1 <= int(length) <= n_rows:
        raise ValueError(
            f"block_length must be an integer from 1 to the {n_rows} rows of X, got {length!r}."
        )
    return int(length)


def _learn(estimator, X, counts, seed, names):
    model = clone(estimator).set_params(random_state=int(seed))
    with single_threaded_blas():
        problem = SEMProblem(model, GramAccumulator().update(X, None, counts), names)
        return problem.solve()["adjacency_"]


def _on_device(estimator, X, counts, seeds):
    """Solve all resamples together by the central path, where the rows are.

    Moments come to the host, which resolves the parameters as for a single fit, and finds the
    graphs in the end.
    """
    xp, device, is_host = get_namespace(X)
    if is_host:
        X = check_array(X, dtype=[np.float64, np.float32], ensure_min_samples=2)
    X = check_device_array(xp.asarray(X), "X", ndim=2, xp=xp)
    problems = [
        SEMProblem(clone(estimator).set_params(random_state=int(seed)), moments)
        for seed, moments in zip(seeds, _resampled_moments(X, np.array(counts), xp, device))
    ]
    nodes = problems[0].nodes
    # A column may be constant in single resamples, which are then left to the host.
    alike = [problem for problem in problems if np.array_equal(problem.nodes, nodes)]
    found = {}
    if len(nodes):

        def put(values):
            return xp.asarray(np.array(values), device=device)

        kernels, _ = kernels_for("sparsestat.dag", X)
        mask = alike[0].mask
        result = kernels.central_path_batch(
            put([problem.varying_covariance for problem in alike]),
            put([problem.alpha for problem in alike]),
            estimator.variance,
            params=estimator.path_params,
            penalty=put([problem.penalty[:, None] for problem in alike]),
            mask=None if mask is None else put(mask),
            sigma_min=estimator.sigma_min,
        )
        weights, scales = _to_host(result.W, xp), _to_host(result.scales, xp)
        found = {
            id(problem): problem.of_path(weights[i], scales[i])["adjacency_"]
            for i, problem in enumerate(alike)
        }
    return [
        found[id(problem)] if id(problem) in found else problem.solve()["adjacency_"]
        for problem in problems
    ]


def _resampled_moments(X, counts, xp, device):
    """Moments of the resamples, computed where the rows are, several at once."""
    n, d = X.shape
    X = xp.astype(X, xp.float64)
    batch = max(1, _BATCH_BYTES // (8 * n * d))
    for start in range(0, len(counts), batch):
        here = counts[start : start + batch]
        w = xp.asarray(here, device=device)
        total = xp.sum(w, axis=1)
        mean = xp.matmul(w, X) / total[:, None]
        rows = (X[None, :, :] - mean[:, None, :]) * xp.sqrt(w)[:, :, None]
        scatter = _to_host(xp.matmul(xp.matrix_transpose(rows), rows), xp)
        for moments in zip(here.sum(axis=1), _to_host(mean, xp), scatter):
            n_samples, mean_, scatter_ = moments
            yield GramAccumulator.from_moments(n_samples, mean_, (scatter_ + scatter_.T) / 2)


def _to_host(x, xp):
    if hasattr(x, "get"):
        return np.array(x.get(), dtype=np.float64)
    if hasattr(x, "__array_namespace__") and hasattr(x, "to_device"):
        x = x.to_device(xp.__array_namespace_info__().devices()[0])
    return np.array(x, dtype=np.float64)


def _summary(weights, quantiles):
    present = weights != 0
    n_present = present.sum(axis=0)
    positive = (weights > 0).sum(axis=0)
    agreement = np.maximum(positive, n_present - positive)
    ancestors = np.mean([descendants(W) for W in weights], axis=0)
    np.fill_diagonal(ancestors, 0.0)
    return Bunch(
        edge_frequency=present.mean(axis=0),
        sign_agreement=np.where(n_present > 0, agreement / np.maximum(n_present, 1), np.nan),
        order_frequency=ancestors,
        weight_quantiles=np.quantile(weights, quantiles, axis=0),
        weights=weights,
        quantiles=quantiles,
    )
