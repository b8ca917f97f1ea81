"""Graphs for a decreasing sequence of penalties, each search beginning with the last order."""

from numbers import Integral

import numpy as np
from sklearn.utils import Bunch, check_random_state

from sparsestat.dag._colide import CoLiDE
from sparsestat.dag._problem import SEMProblem
from sparsestat.utils._moments import GramAccumulator
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import check_alphas


def alpha_max(problem):
    """Smallest penalty for which no graph has an edge.

    Without edges the residuals are the columns themselves, and nothing enters as long as
    ``|S_kj| <= alpha s_j p_k``. For the information criterion it is the largest gain of a
    single edge, which for equal variances several edges together may still exceed.

    Parameters
    ----------
    problem : SEMProblem
        What is to be solved.

    Returns
    -------
    alpha : float
        Its strength; 1 if nothing is correlated.
    """
    S = problem.varying_covariance
    if len(S) < 2:
        return 1.0
    variances = S.diagonal()
    products = np.abs(S)
    np.fill_diagonal(products, 0.0)
    products[problem.constraints.restricted_to(problem.nodes).forbidden] = 0.0
    shared = np.sqrt(variances.mean())
    if problem.model.criterion == "bic":
        explained = products**2 / np.outer(variances, variances)
        explained = np.minimum(explained, 1.0 - 1e-12)
        if problem.model.variance == "equal":
            gain = -0.5 * problem.n_samples * len(S)
            gain = gain * np.log1p(-explained * variances / variances.sum())
        else:
            gain = -0.5 * problem.n_samples * np.log1p(-explained)
        largest = gain.max() / np.log(problem.n_samples)
    else:
        scales = shared if problem.model.variance == "equal" else np.sqrt(variances)
        largest = np.max(products / (problem.penalty[:, None] * scales))
    # Rounding must not let an edge in.
    return float(largest) * (1.0 + 1e-9) if largest > 0 else 1.0


def resolve_alphas(alphas, eps, problem):
    """An explicit grid in descending order, from a number of penalties or the grid itself."""
    if isinstance(alphas, Integral):
        if alphas < 1:
            raise ValueError(f"alphas must be at least 1, got {alphas!r}.")
        top = alpha_max(problem)
        return np.geomspace(top, eps * top, int(alphas))
    return check_alphas(alphas)


def solve_path(problem, alphas, report=None):
    """Solve for every penalty; the order of one is where the next begins.

    Parameters
    ----------
    problem : SEMProblem
        Its penalty is changed.
    alphas : ndarray of shape (n_alphas,)
        Penalties, descending.
    report : callable or None, default=None
        Called with a function that returns the attributes at each penalty; returns
        whether to stop.

    Returns
    -------
    found : list of dict
        Fitted attributes for each penalty.
    """
    rng = check_random_state(problem.model.random_state)
    ordered = problem.model.solver == "order" and len(problem.nodes) > 0
    search = problem.search() if ordered else None
    found, previous = [], None
    for alpha in alphas:
        problem.at(float(alpha))
        if search is not None:
            search.set_alpha(problem.strength)
        attributes = problem.solve(search=search, previous=previous, rng=rng)
        previous = attributes["order_"]
        found.append(attributes)
        if report is not None and report(lambda: found[-1]):
            break
    return found


def colide_path(X, *, alphas=30, eps=1e-3, sample_weight=None, **parameters):
    """Learn a graph for each of many penalties.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features) or GramAccumulator
        Data, or their moments.
    alphas : int or array-like of shape (n_alphas,), default=30
        Penalties, or how many, on a logarithmic scale from the smallest one that lets no
        (for ``criterion="bic"``: no single) edge in.
    eps : float, default=1e-3
        Ratio of the last penalty to the first if ``alphas`` is a number.
    sample_weight : array-like of shape (n_samples,), float or None, default=None
        How often each row occurs.
    **parameters
        Parameters of :class:`CoLiDE` other than ``alpha`` and ``warm_start``.

    Returns
    -------
    path : Bunch
        With the following items.

        alphas : ndarray of shape (n_alphas,)
            Penalties, descending.
        adjacencies, coefs_raw : ndarray of shape (n_alphas, n_features, n_features)
            Weights after and before the threshold.
        orders : ndarray of shape (n_alphas, n_features)
            Topological orders.
        noise_scales : ndarray of shape (n_alphas, n_features)
            Noise standard deviations.
        objectives : ndarray of shape (n_alphas,)
            Values of the criterion.
        n_edges : ndarray of int of shape (n_alphas,)
            Numbers of edges.
        n_iter : ndarray of int of shape (n_alphas,)
            Numbers of sweeps.
        converged : ndarray of bool of shape (n_alphas,)
            Whether the searches ended.

    Raises
    ------
    ValueError
        For a bad argument.

    Examples
    --------
    >>> from sparsestat.dag import colide_path
    >>> from sparsestat.datasets import make_sem
    >>> X = make_sem(n_samples=500, n_nodes=6, degree=1, random_state=0).data
    >>> path = colide_path(X, alphas=5, random_state=0)
    >>> path.adjacencies.shape, int(path.n_edges[0])
    ((5, 6, 6), 0)
    """
    for name in ("alpha", "warm_start"):
        if name in parameters:
            raise ValueError(f"colide_path takes no {name}; pass alphas.")
    if not 0 < eps < 1:
        raise ValueError(f"eps must be between 0 and 1, got {eps!r}.")
    model = CoLiDE(**parameters)
    model._validate_params()
    if isinstance(X, GramAccumulator):
        moments = X
    else:
        moments, _ = model._summarise(X, sample_weight, reset=True)
    with single_threaded_blas():
        problem = SEMProblem(model, moments, getattr(model, "feature_names_in_", None))
        alphas = resolve_alphas(alphas, eps, problem)
        found = solve_path(problem, alphas)

    def stack(name):
        return np.array([attributes[name] for attributes in found])

    return Bunch(
        alphas=alphas,
        adjacencies=stack("adjacency_"),
        coefs_raw=stack("coef_raw_"),
        orders=stack("order_"),
        noise_scales=stack("noise_scales_"),
        objectives=stack("objective_"),
        n_edges=np.count_nonzero(stack("adjacency_"), axis=(1, 2)),
        n_iter=stack("n_iter_"),
        converged=stack("converged_"),
    )
