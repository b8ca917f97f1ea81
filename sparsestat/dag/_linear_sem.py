"""What a fitted linear structural equation model can do, however it was learnt."""

import numbers
from collections.abc import Mapping

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Bunch, check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsestat.dag import _graph
from sparsestat.dag._sem_algebra import (
    PathEffect,
    conditional_mean,
    dense_block,
    gaussian_log_density,
    implied_covariance,
    intervened_moments,
    path_effects,
    row_blocks,
    sample_model,
    solve_noise,
    standardise,
    total_effects,
)
from sparsestat.utils._arrays import get_namespace
from sparsestat.utils._random import as_generator
from sparsestat.utils._validation import check_frequency_weights

NOISES = ("gaussian", "exponential", "laplace", "gumbel")


class LinearSEMMixin(OneToOneFeatureMixin, TransformerMixin):
    """Prediction, likelihood, effects, interventions and export of a linear model on a DAG.

    The model is ``x_j = mean_j + sum_i W[i, j] (x_i - mean_i) + s_j e_j`` with independent
    errors e_j of mean 0 and variance 1, and W[i, j] != 0 where i -> j. Two fits of the
    weights are used: ``adjacency_`` with ``noise_scales_`` as they were learnt, perhaps
    shrunken, describe the model (prediction, effects, samples); least squares on the
    support, ``refit_adjacency_`` with ``refit_noise_scales_``, give the likelihood.

    Methods that take data work on the host: NumPy arrays, DataFrames and SciPy sparse
    arrays, not device arrays. Rows are handled in blocks of about 4 MB in float64; the
    result has the precision of the data. A sparse X is densified one block at a time;
    results are dense.

    The estimator supplies the parameter ``variance`` and the fitted attributes
    ``adjacency_``, ``order_``, ``noise_scales_``, ``refit_adjacency_``,
    ``refit_noise_scales_``, ``mean_``, ``n_features_in_`` and, for named columns,
    ``feature_names_in_``.
    """

    def predict(self, X):
        """Predict every variable from its parents.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        prediction : ndarray of shape (n_samples, n_features)
            ``mean_ + (X - mean_) @ adjacency_``; the mean for a variable without parents.
        """
        X = self._host_data(X, "predict")
        return self._by_blocks(X, lambda block: conditional_mean(block, self.mean_, self._W))

    def residuals(self, X):
        """Subtract the prediction.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        residuals : ndarray of shape (n_samples, n_features)
            ``X - predict(X)``, estimates of the noise.
        """
        X = self._host_data(X, "residuals")
        return self._by_blocks(X, self._residuals)

    def transform(self, X):
        """Estimate the noise behind the data, divided by its scale.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        noise : ndarray of shape (n_samples, n_features)
            ``(X - predict(X)) / noise_scales_``, and zero where the scale is zero
            (columns that were constant at the fit).
        """
        X = self._host_data(X, "transform")
        scales = np.asarray(self.noise_scales_, dtype=np.float64)
        return self._by_blocks(X, lambda block: standardise(self._residuals(block), scales))

    def inverse_transform(self, X):
        """Turn standardised noise into data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noise, as :meth:`transform` returns it.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            The data that this noise causes; the mean in columns of scale zero without parents.
        """
        check_is_fitted(self)
        self._refuse_device(X, "inverse_transform")
        X = check_array(X, dtype=[np.float64, np.float32], input_name="X")
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X must have {self.n_features_in_} columns, one for each variable, "
                f"got {X.shape[1]}."
            )
        return self._by_blocks(
            X,
            lambda block: (
                solve_noise(block * self.noise_scales_, self._W, self.order_) + self.mean_
            ),
        )

    def score_samples(self, X):
        """Log-density of every row under the refitted model with Gaussian noise.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_density : ndarray of float64 of shape (n_samples,)
            That of the normal distribution with mean ``mean_`` and covariance
            ``implied_covariance(refitted=True)``.

        Notes
        -----
        A column whose noise scale is zero, such as one that was constant at the fit, has
        no density. It is left out, and the log-density is that of the other columns;
        where such a column departs from what the model says, it is minus infinity.
        """
        X = self._host_data(X, "score_samples")
        log_density = np.empty(X.shape[0])
        resolution = np.finfo(X.dtype).eps
        for rows in row_blocks(*X.shape):
            log_density[rows] = gaussian_log_density(
                dense_block(X, rows),
                self.mean_,
                self.refit_adjacency_,
                self.refit_noise_scales_,
                resolution=resolution,
            )
        return log_density

    def score(self, X, y=None, sample_weight=None):
        """Mean log-density of the rows, so that a search may choose by held-out likelihood.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs: weight 2 is the row twice.

        Returns
        -------
        score : float
            Mean of :meth:`score_samples`.
        """
        return self._log_likelihood(X, sample_weight)[0]

    def aic(self, X, sample_weight=None):
        """Compute Akaike's information criterion; lower is better.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs: weight 2 is the row twice.

        Returns
        -------
        aic : float
            ``-2 n score(X) + 2 k``, where n is the number of rows and k the number of
            parameters: edges, plus one noise scale for ``variance="equal"`` or one for
            each column with noise. The means are not counted: every graph has the same.
        """
        return self._information_criterion(X, sample_weight, lambda n_samples: 2.0)

    def bic(self, X, sample_weight=None):
        """Compute the Bayesian information criterion; lower is better.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs: weight 2 is the row twice.

        Returns
        -------
        bic : float
            ``-2 n score(X) + k log(n)``, with n and k as in :meth:`aic`.
        """
        return self._information_criterion(X, sample_weight, np.log)

    def sample(self, n_samples=1, *, noise="gaussian", interventions=None, random_state=None):
        """Draw from the model, observed or under interventions.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        noise : {"gaussian", "exponential", "laplace", "gumbel"} or callable, \
                default="gaussian"
            Distribution of the errors, centred and of variance 1. A callable is given a
            :class:`numpy.random.Generator` and the shape ``(n_samples, n_features)``,
            and returns errors of mean 0 and variance 1.
        interventions : dict or None, default=None
            Nodes, as column numbers or names, and what each is set to, whatever its
            parents are: a number, or a callable that is given a Generator and
            ``n_samples`` and returns as many values.
        random_state : int, RandomState instance, Generator or None, default=None
            Source of randomness; None stands for NumPy's global state.

        Returns
        -------
        X : ndarray of float64 of shape (n_samples, n_features)
            The sample.
        """
        check_is_fitted(self)
        if isinstance(n_samples, bool) or not isinstance(n_samples, numbers.Integral):
            raise TypeError(f"n_samples must be an integer, got {n_samples!r}.")
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        if not callable(noise) and noise not in NOISES:
            raise ValueError(f"noise must be callable or one of {NOISES}, got {noise!r}.")
        return sample_model(
            self._W,
            self.noise_scales_,
            self.mean_,
            self.order_,
            n_samples=int(n_samples),
            noise=noise,
            interventions=self._check_interventions(interventions, allow_callable=True),
            rng=as_generator(random_state),
        )

    def intervene(self, interventions):
        """Compute the moments of all variables when some are set to constants.

        Parameters
        ----------
        interventions : dict
            Nodes, as column numbers or names, and the constants that they are set to.

        Returns
        -------
        model : Bunch
            ``mean`` of shape (n_features,), ``covariance`` of shape (n_features,
            n_features) with zero rows at the forced nodes, and ``adjacency``, the weights
            without the edges into forced nodes.

        Notes
        -----
        The mean of a variable moves by the change of each forced node times its total
        effect in the remaining graph; variables that are no descendants of a forced node
        keep their distribution.
        """
        check_is_fitted(self)
        values = self._check_interventions(interventions, allow_callable=False)
        mean, covariance, adjacency = intervened_moments(
            self._W, self.noise_scales_, self.mean_, self.order_, values
        )
        return Bunch(mean=mean, covariance=covariance, adjacency=adjacency)

    def total_effects(self):
        """Change of each variable per unit of a change forced upon another.

        Returns
        -------
        effects : ndarray of shape (n_features, n_features)
            Entry (i, j) is the effect of i on j, ``(I - W)^{-1} - I``: the sum over all
            directed paths of the products of their weights, exactly zero without a path.
        """
        check_is_fitted(self)
        return total_effects(self._W, self.order_)

    def path_effects(self, source, target):
        """Split a total effect into directed paths.

        Parameters
        ----------
        source, target : int or str
            Column numbers or names.

        Returns
        -------
        paths : iterator of PathEffect
            Named tuples ``(nodes, effect)``, one for each directed path from source to
            target: its nodes, by name if the columns have names, and the product of
            its weights. The effects add up to the total effect. Paths are found as the
            iterator advances: dense graphs have exponentially many.
        """
        check_is_fitted(self)
        source, target = self._node(source, "source"), self._node(target, "target")
        names = getattr(self, "feature_names_in_", None)
        paths = path_effects(self._W, source, target)
        if names is None:
            return paths
        return (PathEffect(tuple(str(names[i]) for i in nodes), value) for nodes, value in paths)

    def implied_covariance(self, *, refitted=False):
        """Covariance of the variables that the model implies.

        Parameters
        ----------
        refitted : bool, default=False
            Whether to use the least-squares weights and scales behind :meth:`score`.

        Returns
        -------
        covariance : ndarray of shape (n_features, n_features)
            ``(I - W)^{-T} diag(s^2) (I - W)^{-1}``.
        """
        check_is_fitted(self)
        if refitted:
            return implied_covariance(self.refit_adjacency_, self.refit_noise_scales_, self.order_)
        return implied_covariance(self._W, self.noise_scales_, self.order_)

    def cpdag(self):
        """Graph of what is common to all DAGs with the same conditional independences.

        Returns
        -------
        cpdag : ndarray of shape (n_features, n_features)
            As :func:`sparsestat.dag.cpdag` returns it for ``adjacency_``. Tiers and required
            edges may orient more, of which it knows nothing.
        """
        check_is_fitted(self)
        return _graph.cpdag(self._W)

    def edges(self):
        """List the edges.

        Returns
        -------
        edges : structured ndarray of shape (n_edges,)
            Fields ``source``, ``target`` and ``weight``.
        """
        check_is_fitted(self)
        return _graph.edge_list(self._W, self._names())

    def to_networkx(self):
        """Convert to a graph of networkx, which must be installed.

        Returns
        -------
        graph : networkx.DiGraph
            Nodes are column names, or numbers if the columns have no names; edges have
            the attribute ``weight``.
        """
        check_is_fitted(self)
        return _graph.to_networkx(self._W, self._names())

    def to_graphviz(self):
        """Write the graph in the DOT language; no other package is needed.

        Returns
        -------
        text : str
            A ``digraph`` for Graphviz, with the weights as labels of the edges.
        """
        check_is_fitted(self)
        return _graph.to_dot(self._W, self._names())

    def plot(self, ax=None, **options):
        """Draw the graph; matplotlib must be installed.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        **options : dict
            Passed to :meth:`sparsestat.dag.DAGDisplay.from_estimator`.

        Returns
        -------
        display : DAGDisplay
            What was drawn.
        """
        from sparsestat.dag._plot import DAGDisplay

        return DAGDisplay.from_estimator(self, ax=ax, **options)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _W(self):
        return np.asarray(self.adjacency_, dtype=np.float64)

    def _names(self):
        names = getattr(self, "feature_names_in_", None)
        return None if names is None else [str(name) for name in names]

    def _refuse_device(self, X, method):
        if not hasattr(X, "tocsr") and not get_namespace(X)[2]:
            raise TypeError(
                f"{method} takes data on the host (NumPy arrays, DataFrames, SciPy sparse "
                f"arrays), got {type(X).__module__}.{type(X).__name__}; convert it first."
            )

    def _host_data(self, X, method):
        check_is_fitted(self)
        self._refuse_device(X, method)
        return validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )

    def _by_blocks(self, X, function):
        """Apply a function of float64 blocks; the result has the dtype of X."""
        result = np.empty(X.shape, dtype=X.dtype)
        for rows in row_blocks(*X.shape):
            result[rows] = function(dense_block(X, rows))
        return result

    def _residuals(self, block):
        return block - conditional_mean(block, self.mean_, self._W)

    def _log_likelihood(self, X, sample_weight):
        """Mean log-density, and the number of rows that it is the mean of."""
        log_density = self.score_samples(X)
        weights = check_frequency_weights(sample_weight, log_density)
        if weights is None:
            return float(log_density.mean()), float(log_density.size)
        present = weights > 0
        total = weights.sum()
        return float(weights[present] @ log_density[present] / total), float(total)

    def _information_criterion(self, X, sample_weight, price):
        mean, n_samples = self._log_likelihood(X, sample_weight)
        n_noisy = np.count_nonzero(self.refit_noise_scales_)
        n_scales = int(n_noisy > 0) if self.variance == "equal" else int(n_noisy)
        n_parameters = int(np.count_nonzero(self.adjacency_)) + n_scales
        return float(-2.0 * n_samples * mean + price(n_samples) * n_parameters)

    def _node(self, key, argument):
        """Number of the column that a number or a name stands for."""
        if isinstance(key, str):
            names = self._names()
            if names is None:
                raise ValueError(
                    f"{argument} names the node {key!r}, but the columns had no names at the "
                    "fit; use the column's number."
                )
            if key not in names:
                raise ValueError(f"{argument} names the node {key!r}; the nodes are {names}.")
            return names.index(key)
        if isinstance(key, bool | np.bool_) or not isinstance(key, numbers.Integral):
            raise TypeError(f"{argument} must give nodes as column numbers or names, got {key!r}.")
        if not 0 <= int(key) < self.n_features_in_:
            raise ValueError(
                f"{argument} must give column numbers from 0 to {self.n_features_in_ - 1}, "
                f"got {key}."
            )
        return int(key)

    def _check_interventions(self, interventions, *, allow_callable):
        """A dict from column numbers to floats or callables."""
        if interventions is None and allow_callable:
            return {}
        if not isinstance(interventions, Mapping):
            raise TypeError(
                f"interventions must be a dict from nodes to values, got {interventions!r}."
            )
        checked = {}
        for key, value in interventions.items():
            node = self._node(key, "interventions")
            if node in checked:
                raise ValueError(f"interventions names node {node} twice, the second time {key!r}.")
            if isinstance(value, numbers.Real):
                if not np.isfinite(float(value)):
                    raise ValueError(
                        f"interventions must hold finite values, got {value} for node {key!r}."
                    )
                checked[node] = float(value)
            elif allow_callable and callable(value):
                checked[node] = value
            else:
                advice = " or a callable" if allow_callable else "; sample also takes callables"
                raise TypeError(
                    f"interventions must map node {key!r} to a number{advice}, got {value!r}."
                )
        return checked
