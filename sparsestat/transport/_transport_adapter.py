"""Domain adaptation: train where the labels are, on data moved to where predictions are made."""

from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from sparsestat.transport._entropic_transport import EntropicTransport
from sparsestat.utils._sklearn import HasMethods, _fit_context
from sparsestat.utils._validation import check_frequency_weights


def _final_has(name):
    def check(self):
        getattr(getattr(self, "estimator_", self.estimator), name)
        return True

    return available_if(check)


class TransportAdapter(MetaEstimatorMixin, BaseEstimator):
    """Fit an estimator on labelled data that are transported to the domain of its predictions.

    The labelled data (the source) and the data to predict for (the target) come from
    different distributions. The source is mapped onto unlabelled points of the target by
    optimal transport, a clone of the estimator is fitted to the moved points with their
    labels, and predicts for points of the target as they are [1]_.

    Parameters
    ----------
    estimator : estimator
        Classifier or regressor to fit.
    transport : EntropicTransport or None, default=None
        How to move the source; None for ``EntropicTransport()``. Any transformer that has a
        parameter ``target`` will do.
    target : array-like of shape (n_target, n_features) or None, default=None
        Unlabelled points of the target. None leaves that of ``transport`` in place; if
        there is none either, nothing is known of another domain and nothing is moved.

    Attributes
    ----------
    estimator_ : estimator
        The fitted clone.
    transport_ : EntropicTransport or None
        The fitted transport; None without a target.
    classes_ : ndarray of shape (n_classes,)
        The classes, of a classifier.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    EntropicTransport : The map.

    Notes
    -----
    A pipeline of the transport and the estimator is not the same: it would move the target
    points as well when it predicts, as if they came from the source.

    Optimal transport finds the shift if it is the gradient of a convex function, as
    translations and changes of scale along axes are, and if the shares of the classes agree
    in both domains. A rotation is no such gradient: a small one is found nearly, a large one
    is not, and nothing in the data tells which it was.

    References
    ----------
    .. [1] Courty, N., Flamary, R., Tuia, D. and Rakotomamonjy, A. (2017). Optimal transport
       for domain adaptation. IEEE Transactions on Pattern Analysis and Machine
       Intelligence 39, 1853-1865.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sparsestat.transport import TransportAdapter
    >>> X, y = make_blobs(200, centers=[[0, 0], [3, 3]], random_state=0)
    >>> target, labels = make_blobs(200, centers=[[4, 0], [7, 3]], random_state=1)
    >>> without = LogisticRegression().fit(X, y).score(target, labels)
    >>> adapted = TransportAdapter(LogisticRegression(), target=target).fit(X, y)
    >>> without < 0.7 and adapted.score(target, labels) > 0.9
    True
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"])],
        "transport": [HasMethods(["fit", "transform"]), None],
        "target": ["array-like", None],
    }

    def __init__(self, estimator, transport=None, target=None):
        self.estimator = estimator
        self.transport = transport
        self.target = target

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Move the source to the target, and fit the estimator to it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points of the source.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their labels.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            How often each point counts, for both the transport and the estimator.

        Returns
        -------
        self : TransportAdapter
            The fitted estimator.

        Raises
        ------
        TypeError
            For weights with an estimator that does not take any.
        """
        if sample_weight is not None and not has_fit_parameter(self.estimator, "sample_weight"):
            raise TypeError(
                f"sample_weight was given, but {type(self.estimator).__name__} does not take it."
            )
        self._check_points(X, reset=True)
        weights = {}
        if sample_weight is not None:
            weights["sample_weight"] = check_frequency_weights(sample_weight, X)
        transport = EntropicTransport() if self.transport is None else clone(self.transport)
        if self.target is not None:
            transport.set_params(target=self.target)
        if transport.target is None:
            transport = None
        else:
            if hasattr(transport, "set_output"):
                # The estimator is to know the names that it is asked with later, and no others.
                named = hasattr(self, "feature_names_in_")
                container = type(X).__module__.partition(".")[0] if named else "default"
                transport.set_output(transform=container)
            X = transport.fit(X, **weights).transform(X)
        estimator = clone(self.estimator).fit(X, y, **weights)
        self.transport_, self.estimator_ = transport, estimator
        if hasattr(self.estimator_, "classes_"):
            self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X):
        """Predict for points of the target.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points of the target, as they are.

        Returns
        -------
        y : ndarray of shape (n_points,) or (n_points, n_outputs)
            What the fitted estimator predicts.
        """
        return self._of_target("predict", X)

    @_final_has("predict_proba")
    def predict_proba(self, X):
        """Probabilities of the classes for points of the target.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points of the target.

        Returns
        -------
        p : ndarray of shape (n_points, n_classes)
            In the order of ``classes_``.
        """
        return self._of_target("predict_proba", X)

    @_final_has("decision_function")
    def decision_function(self, X):
        """Decision values for points of the target.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points of the target.

        Returns
        -------
        values : ndarray of shape (n_points,) or (n_points, n_classes)
            What the fitted estimator says.
        """
        return self._of_target("decision_function", X)

    @_final_has("score")
    def score(self, X, y, sample_weight=None):
        """Score of the fitted estimator on labelled points of the target.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points of the target.
        y : array-like of shape (n_points,) or (n_points, n_outputs)
            Their labels.
        sample_weight : array-like of shape (n_points,) or None, default=None
            Weights of the points.

        Returns
        -------
        score : float
            Accuracy, or the coefficient of determination.
        """
        check_is_fitted(self)
        self._check_points(X, reset=False)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return self.estimator_.score(X, y, **weights)

    def _check_points(self, X, *, reset):
        """Check the columns and the values; the estimators get X as it is, with its names."""
        tags = get_tags(self)
        validate_data(
            self,
            X,
            reset=reset,
            accept_sparse=["csr", "csc", "coo"] if tags.input_tags.sparse else False,
            dtype=None,
            ensure_all_finite=not tags.input_tags.allow_nan,
        )

    def _of_target(self, method, X):
        check_is_fitted(self)
        self._check_points(X, reset=False)
        return getattr(self.estimator_, method)(X)

    def __sklearn_tags__(self):
        tags: Tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.target_tags = inner.target_tags
        moves = self.target is not None or getattr(self.transport, "target", None) is not None
        tags.input_tags.sparse = inner.input_tags.sparse and not moves
        tags.input_tags.allow_nan = inner.input_tags.allow_nan and not moves
        return tags
