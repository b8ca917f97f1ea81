"""Display of the trajectories of a Schroedinger bridge."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array

from sparsestat.utils._validation import check_fitted_step

_START, _PATH, _END = "#0072B2", "0.6", "#E69F00"


class BridgeDisplay:
    """Trajectories of a Schroedinger bridge, with their starting and end points.

    Two columns are drawn as a plane; a single one against time.

    Build one with :meth:`from_estimator`.

    Parameters
    ----------
    paths : ndarray of shape (n_paths, n_times, 1 or 2)
        Trajectories.
    times : ndarray of shape (n_times,)
        Their times, from 0 to 1.
    feature_names : list of str
        Names of the columns drawn.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    lines_ : list of matplotlib Line2D
        One for each trajectory.
    start_, end_ : matplotlib PathCollection
        The points at both ends.

    See Also
    --------
    LightSchrodingerBridge : Learns a bridge.

    Examples
    --------
    >>> from sparsestat.datasets import make_schrodinger_bridge
    >>> from sparsestat.transport import BridgeDisplay, LightSchrodingerBridge
    >>> data = make_schrodinger_bridge(500, 2, n_components=2, epsilon=1.0, random_state=0)
    >>> bridge = LightSchrodingerBridge(2, target=data.target, epsilon=1.0, random_state=0)
    >>> display = BridgeDisplay.from_estimator(bridge.fit(data.X), data.X, n_paths=20)
    >>> len(display.lines_)
    20
    """

    def __init__(self, *, paths, times, feature_names):
        self.paths = paths
        self.times = times
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls, estimator, X, *, n_paths=100, n_times=50, features=None, random_state=None, ax=None
    ):
        """Draw trajectories from a fitted bridge, and plot them.

        Parameters
        ----------
        estimator : LightSchrodingerBridge or LightSchrodingerBridgeCV
            Fitted to NumPy arrays or DataFrames.
        X : array-like of shape (n_samples, n_features)
            Starting points.
        n_paths : int, default=100
            Largest number of trajectories; if X has more rows, some are drawn at random.
        n_times : int, default=50
            Number of times, at least two.
        features : list of one or two ints, default=None
            Which columns are drawn; None stands for the first two.
        random_state : int, RandomState instance, Generator or None, default=None
            Source of the random numbers; None stands for that of the estimator.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.

        Returns
        -------
        display : BridgeDisplay
            What was drawn.

        Raises
        ------
        TypeError
            For an estimator that has no trajectories.
        ValueError
            For numbers of paths or times, or columns, that make no picture.
        """
        check_fitted_step(estimator, "trajectories")
        if not hasattr(estimator, "sample_path"):
            raise TypeError(
                f"{type(estimator).__name__} has no trajectories; fit a LightSchrodingerBridge."
            )
        for name, value, least in (("n_paths", n_paths, 1), ("n_times", n_times, 2)):
            if not isinstance(value, Integral) or int(value) < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
        n_features = estimator.n_features_in_
        features = list(range(min(2, n_features))) if features is None else list(features)
        known = all(isinstance(j, Integral) and 0 <= int(j) < n_features for j in features)
        if len(features) not in (1, 2) or not known:
            raise ValueError(
                f"features must be one or two columns of the {n_features} of X, got {features!r}."
            )
        rng = estimator._generator(random_state)
        rows = np.arange(len(X))
        if len(rows) > n_paths:
            rows = np.sort(rng.choice(len(X), n_paths, replace=False))
        start = X.iloc[rows] if hasattr(X, "iloc") else check_array(X)[rows]
        times = np.linspace(0.0, 1.0, n_times)
        paths = estimator.sample_path(start, times, random_state=rng)
        names = getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(n_features)])
        display = cls(
            paths=paths[:, :, features],
            times=times,
            feature_names=[str(names[j]) for j in features],
        )
        return display.plot(ax=ax)

    def plot(self, ax=None):
        """Draw the trajectories.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.

        Returns
        -------
        display : BridgeDisplay
            The same object.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        planar = self.paths.shape[2] == 2
        self.lines_ = []
        for path in self.paths:
            across, up = path.T if planar else (self.times, path[:, 0])
            self.lines_ += ax.plot(across, up, color=_PATH, linewidth=0.5, alpha=0.5, zorder=1)
        ends = []
        for position, color, label in ((0, _START, "start"), (-1, _END, "end")):
            points = self.paths[:, position]
            if planar:
                across, up = points.T
            else:
                across, up = np.full(len(points), self.times[position]), points[:, 0]
            ends.append(ax.scatter(across, up, s=12, color=color, label=label, zorder=2))
        self.start_, self.end_ = ends
        if planar:
            ax.set_xlabel(self.feature_names[0])
            ax.set_ylabel(self.feature_names[1])
        else:
            ax.set_xlabel("time")
            ax.set_ylabel(self.feature_names[0])
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
