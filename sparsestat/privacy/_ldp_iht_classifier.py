"""Iterative hard thresholding under local differential privacy, for the logistic loss."""

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from sparsestat.privacy._iht_estimator import IHT_CONSTRAINTS, IHTEstimator
from sparsestat.utils._sklearn import _fit_context, with_callbacks


class LDPIHTClassifier(IHTEstimator, ClassifierMixin, BaseEstimator):
    """Sparse logistic regression from gradients that each user randomises, in rounds.

    As :class:`LDPIHTRegressor`, with the gradient of the logistic loss, which is bounded by
    the norm of the clipped features. A report satisfies (epsilon, delta)-local differential
    privacy for the replacement of one record, features and label together; it is pure for the
    mechanisms "one_bit" and "duchi". The two classes themselves are public.
    Outside the guarantee are the time and the round of a report, whether it is sent at all, and
    data that are shown to :meth:`predict` or :meth:`score`.

    Parameters
    ----------
    epsilon : float, default=1.0
        Privacy of a report, above 0 and at most 50.
    n_nonzero : int or None, default=None
        Number of features to keep, which is public; None takes the square root of the number
        of features, rounded up.
    n_rounds : int, default=4
        Number of rounds. More rounds have fewer users each.
    step : "auto" or float, default="auto"
        Length of a step, see :class:`LDPIHTServer`.
    averaging : bool, default=True
        Whether points are made from the average of the steps since the second round, or from
        the last step alone, as in the papers.
    delta : float, default=0.0
        Above 0 for the Gaussian mechanisms only.
    mechanism : {"one_bit", "duchi", "gaussian", "discrete_gaussian"}, default="one_bit"
        How gradients are randomised, see :class:`LDPConfig`.
    n_bits : int or None, default=None
        Bits per report; None takes the best number for `epsilon`.
    x_bound : "sqrt_d" or float, default="sqrt_d"
        Radius to which features are clipped, in public units; "sqrt_d" is the square root of
        the number of columns.
    coef_bound : float, default=1.0
        Public bound on the Euclidean norm of the coefficients, in public units; the intercept
        is not counted.
    feature_center, feature_scale : array-like of shape (n_features,) or None, default=None
        Public units of the features; None is 0 and 1. They must not come from the records.
    fit_intercept : bool, default=False
        Whether a column of ones is added; its coefficient is never set to zero.
    campaign_id : str, default=""
        Goes into the fingerprint of the configuration.
    n_jobs : int or None, default=None
        Number of threads; the result is the same for any.
    random_state : int, RandomState instance, Generator or None, default=None
        Source of the rounds' groups and of the clients' coins.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The classes.
    coef_ : ndarray of shape (1, n_features)
        Coefficients of the log-odds of the second class, in the units of the data.
    intercept_ : ndarray of shape (1,)
        Intercept of the log-odds.
    support_ : ndarray of shape (n_features,), bool
        Features with a coefficient other than zero.
    coef_std_error_ : ndarray of shape (n_features,)
        As for :class:`LDPIHTRegressor`.
    noise_scale_ : float
        The same in public units.
    theta_ : ndarray of shape (n_columns,)
        Coefficients in public units, the intercept first.
    path_ : ndarray of shape (n_iter_ + 1, n_columns)
        The broadcast points and the last one, in public units.
    n_reports_ : int
        Number of reports.
    n_iter_ : int
        Number of rounds.
    converged_ : bool
        Whether all rounds took place.
    config_ : LDPConfig
        What the clients were told.
    privacy_ : PrivacySpec
        The guarantee of each report.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if they were strings.

    Warns
    -----
    PublicUnitsWarning
        If nearly all records of a simulation are clipped.
    LowSignalWarning
        If the known noise hides any coefficient within `coef_bound`.

    See Also
    --------
    LDPIHTRegressor : Squared loss; its notes hold here as well.

    References
    ----------
    .. [1] D. Wang and J. Xu (2021). On sparse linear regression in the local differential
       privacy model. *IEEE Transactions on Information Theory* 67(2), 1182-1200.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPIHTClassifier
    >>> data = make_sparse_regression(200_000, 10, 2, target="binary", random_state=0)
    >>> model = LDPIHTClassifier(epsilon=2.0, n_nonzero=2, random_state=1)
    >>> model = model.fit(data.data, data.target)
    >>> bool((model.support_ == (data.coef != 0)).all())
    True
    """

    _loss = "logistic"
    _parameter_constraints: dict = {**IHT_CONSTRAINTS}

    def __init__(
        self,
        epsilon=1.0,
        *,
        n_nonzero=None,
        n_rounds=4,
        step="auto",
        averaging=True,
        delta=0.0,
        mechanism="one_bit",
        n_bits=None,
        x_bound="sqrt_d",
        coef_bound=1.0,
        feature_center=None,
        feature_scale=None,
        fit_intercept=False,
        campaign_id="",
        n_jobs=None,
        random_state=None,
    ):
        self.epsilon = epsilon
        self.n_nonzero = n_nonzero
        self.n_rounds = n_rounds
        self.step = step
        self.averaging = averaging
        self.delta = delta
        self.mechanism = mechanism
        self.n_bits = n_bits
        self.x_bound = x_bound
        self.coef_bound = coef_bound
        self.feature_center = feature_center
        self.feature_scale = feature_scale
        self.fit_intercept = fit_intercept
        self.campaign_id = campaign_id
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Simulate a campaign.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Records of the users; one user after another becomes dense.
        y : array-like of shape (n_samples,)
            Labels of the users, of two classes.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            For invalid data or parameters, other than two classes, and bounds that would
            depend on the data.
        """
        context = self._init_callback_context(max_subtasks=self.n_rounds)
        given = X, y
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32])
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) > 2:
            raise ValueError(
                f"Only binary classification is supported. y has {len(classes)} classes."
            )
        if len(classes) < 2:
            raise ValueError(
                f"y must have two classes, got one class only: {classes.tolist()[0]!r}."
            )
        return self._fit_rounds(X, labels.astype(np.float64), given, context, classes_=classes)

    def _reconstruct(self, theta, config, dtype):
        attributes = super()._reconstruct(theta, config, dtype)
        return {
            "coef_": attributes["coef_"][None],
            "intercept_": np.array([attributes["intercept_"]], dtype=dtype),
        }

    def fit_server(self, server, classes=(0, 1)):
        """Take the coefficients of a campaign that real clients answered.

        Parameters
        ----------
        server : LDPIHTServer
            With at least one closed round. Its configuration counts; of the parameters of
            this estimator none is used.
        classes : sequence of length 2, default=(0, 1)
            What the targets 0 and 1 of the clients stand for.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If no round is closed, the loss is another one, or there are not two classes.
        """
        classes = np.asarray(classes)
        if classes.shape != (2,):
            raise ValueError(f"classes must hold two classes, got {classes!r}.")
        super().fit_server(server)
        self.classes_ = classes
        return self

    def decision_function(self, X):
        """Compute the log-odds of the second class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features in the units of the data.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            ``X @ coef_[0] + intercept_``.
        """
        return self._linear_predictor(X)[:, 0]

    def predict(self, X):
        """Predict the class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features in the units of the data.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The more probable class.
        """
        second = self.decision_function(X) > 0
        return self.classes_[second.astype(int)]

    def predict_proba(self, X):
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features in the units of the data.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 2)
            In the order of `classes_`.
        """
        second = expit(self.decision_function(X))
        return np.column_stack([1.0 - second, second])

    def predict_log_proba(self, X):
        """Compute the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features in the units of the data.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, 2)
            In the order of `classes_`.
        """
        odds = self.decision_function(X)
        return np.column_stack([-np.logaddexp(0.0, odds), -np.logaddexp(0.0, -odds)])
