"""The loss of a light Schroedinger bridge and its gradient, for epsilon = 1 and centred data.

Change of units: with x = D^-1 x' sqrt(epsilon) and y = D y' sqrt(epsilon) for a diagonal D, the
inner product x.y / epsilon, and with it the plan, becomes x'.y'. Hence epsilon and the units of
the columns are gone from this file. It minimises

    L = E log sum_k exp(a_k + r_k'x + x'S_k x / 2) - E log sum_k exp(a_k) N(y; r_k, S_k)

over a_k = log alpha_k, r_k and S_k, where E stands for means over the two samples. With the
probabilities w_k(x) and g_k(y) of the components under the two sums,

    dL/da_k = E w_k - E g_k
    dL/dr_k = E w_k x - S_k^-1 E g_k (y - r_k)
    dL/dS_k = (E w_k xx' + S_k^-1 E g_k - S_k^-1 E g_k (y - r_k)(y - r_k)' S_k^-1) / 2.

So each sample enters through sums of probabilities times 1, z and zz' alone, which are formed
where the data live; everything else has the size of the parameters and is done on the host.
S_k = floor I + L_k L_k', where L_k is lower triangular with a diagonal that is kept as its
logarithm; for diagonal S_k only that diagonal is there.
"""

import numpy as np

_LOG_2PI = float(np.log(2.0 * np.pi))

SMALLEST_SPREAD = 1e-10
"""Least share of S_k beyond its floor, from which the optimiser can still move it."""


def host_vector(x):
    """Bring a short vector to the host.

    Parameters
    ----------
    x : array of shape (n,)
        An array of any library.

    Returns
    -------
    x : ndarray of shape (n,)
        The same numbers as a NumPy array.
    """
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "get"):  # CuPy
        return x.get()
    return np.array([float(x[i]) for i in range(x.shape[0])])


def parameter_count(n_components, n_features, full):
    """Length of the parameter vector.

    Parameters
    ----------
    n_components : int
        Number of components.
    n_features : int
        Number of features.
    full : bool
        Whether the S_k are full matrices.

    Returns
    -------
    count : int
    """
    spread = n_features * (n_features + 1) // 2 if full else n_features
    return n_components * (1 + n_features + spread)


def pack(log_weights, locations, spreads, floor):
    """Write the parameters as one vector.

    Parameters
    ----------
    log_weights : ndarray of shape (n_components,)
        Logarithms a_k.
    locations : ndarray of shape (n_components, n_features)
        Locations r_k.
    spreads : ndarray of shape (n_components, n_features[, n_features])
        Diagonals of the S_k, or the matrices.
    floor : float
        What is taken off the diagonals before the factorisation; where less than that is
        there, the smallest spread above the floor is taken.

    Returns
    -------
    theta : ndarray
        The vector.
    """
    if spreads.ndim == 2:
        return np.concatenate(
            [
                log_weights,
                locations.ravel(),
                np.log(np.maximum(spreads - floor, SMALLEST_SPREAD)).ravel(),
            ]
        )
    values, vectors = np.linalg.eigh(spreads)
    values = np.maximum(values - floor, SMALLEST_SPREAD)
    factors = np.linalg.cholesky((vectors * values[:, None, :]) @ vectors.transpose(0, 2, 1))
    diagonal = np.arange(locations.shape[1])
    factors[:, diagonal, diagonal] = np.log(factors[:, diagonal, diagonal])
    rows, columns = np.tril_indices(locations.shape[1])
    return np.concatenate([log_weights, locations.ravel(), factors[:, rows, columns].ravel()])


def unpack(theta, n_components, n_features, full, floor):
    """Read the parameters from a vector.

    Parameters
    ----------
    theta : ndarray
        The vector.
    n_components : int
        Number of components.
    n_features : int
        Number of features.
    full : bool
        Whether the S_k are full matrices.
    floor : float
        What is added to the diagonals.

    Returns
    -------
    log_weights : ndarray of shape (n_components,)
        Logarithms a_k.
    locations : ndarray of shape (n_components, n_features)
        Locations r_k.
    spreads : ndarray of shape (n_components, n_features[, n_features])
        Diagonals of the S_k, or the matrices.
    factors : ndarray of the same shape
        ``spreads - floor``, or the triangular factors of that.
    """
    first = n_components * (1 + n_features)
    log_weights = theta[:n_components]
    locations = theta[n_components:first].reshape(n_components, n_features)
    if not full:
        factors = np.exp(theta[first:]).reshape(n_components, n_features)
        return log_weights, locations, floor + factors, factors
    rows, columns = np.tril_indices(n_features)
    diagonal = np.arange(n_features)
    factors = np.zeros((n_components, n_features, n_features))
    factors[:, rows, columns] = theta[first:].reshape(n_components, -1)
    factors[:, diagonal, diagonal] = np.exp(factors[:, diagonal, diagonal])
    spreads = factors @ factors.transpose(0, 2, 1)
    spreads[:, diagonal, diagonal] += floor
    return log_weights, locations, spreads, factors


def _features(Z, full, xp):
    """A sample as it enters the sums: a column for each point, the last row ones."""
    ones = xp.ones_like(Z[:, :1])
    parts = [Z, ones] if full else [Z * Z, Z, ones]
    # Contiguous rows make every reduction over components one over whole rows.
    return xp.asarray(xp.matrix_transpose(xp.concat(parts, axis=1)), copy=True)


def soft_sums(exponents, shares, xp):
    """Average log sum_k exp over points.

    Parameters
    ----------
    exponents : array of shape (n_components, n)
        One column for each point.
    shares : array of shape (n,)
        Weights of the points.
    xp : module
        Their namespace.

    Returns
    -------
    value : array of shape ()
        The weighted sum of log sum_k exp.
    p : array of shape (n_components, n)
        The softmax of each column times the weight of the point.
    """
    largest = xp.max(exponents, axis=0)
    terms = xp.exp(exponents - largest)
    sums = xp.sum(terms, axis=0)
    value = xp.sum(shares * (largest + xp.log(sums)))
    return value, terms * (shares / sums)


def source_exponents(X, locations, spreads, xp):
    """Compute r_k'x + x'S_k x / 2.

    Parameters
    ----------
    X : array of shape (n, n_features)
        Points.
    locations : ndarray of shape (n_components, n_features)
        The r_k, on the host.
    spreads : ndarray of shape (n_components, n_features[, n_features])
        The S_k, on the host.
    xp : module
        Namespace of the points.

    Returns
    -------
    exponents : array of shape (n_components, n)
    """
    Z = xp.matrix_transpose(X)
    r, S = (xp.asarray(v, dtype=xp.float64, device=X.device) for v in (locations, spreads))
    if spreads.ndim == 2:
        return xp.matmul(S / 2, Z * Z) + xp.matmul(r, Z)
    squares = [xp.sum(Z * xp.matmul(S[k, :, :], Z), axis=0) for k in range(S.shape[0])]
    return xp.matmul(r, Z) + 0.5 * xp.stack(squares)


def _diagonal_pass(coefficients, F, shares, xp):
    """Mean of log sum_k exp(coefficients_k . F) and mean probabilities times F."""
    value, p = soft_sums(xp.matmul(coefficients, F), shares, xp)
    sums = xp.matmul(p, xp.matrix_transpose(F))
    return xp.concat([xp.reshape(value, (1,)), xp.reshape(sums, (-1,))])


def _full_pass(linear, roots, offsets, sign, F, shares, xp):
    """The same for the exponents linear_k . (z, 1) + sign |roots_k z - offsets_k|^2 / 2."""
    Z = F[:-1, :]
    n_components = linear.shape[0]
    exponents = xp.matmul(linear, F)
    squares = []
    for k in range(n_components):
        away = xp.matmul(roots[k, :, :], Z) - offsets[k, :, None]
        squares.append(xp.sum(away * away, axis=0))
    value, p = soft_sums(exponents + (0.5 * sign) * xp.stack(squares), shares, xp)
    parts = [xp.reshape(value, (1,)), xp.reshape(xp.matmul(p, xp.matrix_transpose(F)), (-1,))]
    for k in range(n_components):
        product = xp.matmul(p[k, :] * Z, xp.matrix_transpose(Z))
        parts.append(xp.reshape(product, (-1,)))
    return xp.concat(parts)


class BridgeObjective:
    """The loss of two samples as a function of the parameter vector.

    Parameters
    ----------
    X : array of shape (n, n_features)
        Source, centred, in the units that make epsilon one; float64, of any library of
        the array API standard.
    Y : array of shape (m, n_features)
        Target, likewise.
    x_shares : array of shape (n,)
        Weights of the source points, which sum to one.
    y_shares : array of shape (m,)
        Weights of the target points.
    n_components : int
        Number of components.
    full : bool
        Whether the S_k are full matrices.
    floor : float
        Least eigenvalue of the S_k.
    xp : module
        The namespace of the arrays.
    """

    def __init__(self, X, Y, x_shares, y_shares, *, n_components, full, floor, xp):
        self.n_components = n_components
        self.n_features = X.shape[1]
        self.full = full
        self.floor = floor
        self._xp = xp
        self._source = _features(X, full, xp), x_shares
        self._target = _features(Y, full, xp), y_shares

    def unpack(self, theta):
        """Read the parameters from a vector, see :func:`unpack`."""
        return unpack(theta, self.n_components, self.n_features, self.full, self.floor)

    def bounds(self):
        """How far the spreads may go, far beyond where they belong, without an overflow.

        Returns
        -------
        lower, upper : ndarray
            Limits of the entries of the parameter vector.
        """
        K, d = self.n_components, self.n_features
        limit = -np.log(SMALLEST_SPREAD) / (2 if self.full else 1)
        spread = np.full((K, d), limit)
        if self.full:
            rows, columns = np.tril_indices(d)
            spread = np.where(rows == columns, limit, np.inf) * np.ones((K, 1))
        upper = np.concatenate([np.full(K * (1 + d), np.inf), spread.ravel()])
        return -upper, upper

    def batch(self, rows, columns):
        """Restrict the objective to some points.

        Parameters
        ----------
        rows : ndarray of int
            Positions of the source points.
        columns : ndarray of int
            Positions of the target points.

        Returns
        -------
        objective : BridgeObjective
            Its loss is that of these points, each with the same weight.
        """
        part = object.__new__(BridgeObjective)
        part.__dict__.update(self.__dict__)
        part._source = self._take(self._source[0], rows)
        part._target = self._take(self._target[0], columns)
        return part

    def _take(self, F, positions):
        shares = self._xp.full(
            (len(positions),), 1.0 / len(positions), dtype=F.dtype, device=F.device
        )
        return self._xp.take(F, self._xp.asarray(positions, device=F.device), axis=1), shares

    @property
    def n_source(self):
        """Number of source points."""
        return self._source[1].shape[0]

    @property
    def n_target(self):
        """Number of target points."""
        return self._target[1].shape[0]

    def __call__(self, theta):
        """Compute the loss and its gradient.

        Parameters
        ----------
        theta : ndarray
            Parameters on the host, see :func:`pack`.

        Returns
        -------
        loss : float
            The loss.
        gradient : ndarray
            Its gradient, on the host.
        """
        return self._with_matrices(theta) if self.full else self._with_diagonals(theta)

    def _sums(self, sums, sample, *arguments):
        xp, (F, shares) = self._xp, sample
        arguments = [
            xp.asarray(x, dtype=xp.float64, device=F.device) if isinstance(x, np.ndarray) else x
            for x in arguments
        ]
        values = host_vector(sums(*arguments, F, shares, xp))
        return float(values[0]), values[1:]

    def _with_diagonals(self, theta):
        K, d = self.n_components, self.n_features
        a, r, s, factors = self.unpack(theta)
        source = np.concatenate([s / 2, r, a[:, None]], axis=1)
        constant = a - 0.5 * np.sum(np.log(s) + _LOG_2PI + r * r / s, axis=1)
        target = np.concatenate([-0.5 / s, r / s, constant[:, None]], axis=1)
        log_c, sums = self._sums(_diagonal_pass, self._source, source)
        w_xx, w_x, w = np.split(sums.reshape(K, -1), (d, 2 * d), axis=1)
        log_v, sums = self._sums(_diagonal_pass, self._target, target)
        g_yy, g_y, g = np.split(sums.reshape(K, -1), (d, 2 * d), axis=1)
        scatter = g_yy - 2 * r * g_y + r * r * g
        ds = (w_xx + (g - scatter / s) / s) / 2
        gradient = [(w - g).ravel(), (w_x - (g_y - g * r) / s).ravel(), (ds * factors).ravel()]
        return log_c - log_v, np.concatenate(gradient)

    def _with_matrices(self, theta):
        K, d = self.n_components, self.n_features
        a, r, S, factors = self.unpack(theta)
        values, vectors = np.linalg.eigh(S)
        # Rounding may take away what the floor has added.
        values = np.maximum(values, self.floor)[:, :, None]
        vectors = vectors.transpose(0, 2, 1)
        roots, inverse_roots = np.sqrt(values) * vectors, vectors / np.sqrt(values)
        precisions = inverse_roots.transpose(0, 2, 1) @ inverse_roots
        log_det = np.log(values).sum(axis=(1, 2))
        source = np.concatenate([r, a[:, None]], axis=1)
        target = np.zeros((K, d + 1))
        target[:, -1] = a - 0.5 * (log_det + d * _LOG_2PI)
        offsets = np.einsum("kij,kj->ki", inverse_roots, r)
        log_c, sums = self._sums(_full_pass, self._source, source, roots, np.zeros((K, d)), 1.0)
        w_x, w, w_xx = _split(sums, K, d)
        log_v, sums = self._sums(_full_pass, self._target, target, inverse_roots, offsets, -1.0)
        g_y, g, g_yy = _split(sums, K, d)
        cross = r[:, :, None] * g_y[:, None, :]
        scatter = g_yy - cross - cross.transpose(0, 2, 1)
        scatter += g[:, :, None] * r[:, :, None] * r[:, None, :]
        dr = w_x - np.einsum("kij,kj->ki", precisions, g_y - g * r)
        dS = (w_xx + g[:, :, None] * precisions - precisions @ scatter @ precisions) / 2
        dL = (dS + dS.transpose(0, 2, 1)) @ factors
        diagonal = np.arange(d)
        dL[:, diagonal, diagonal] *= factors[:, diagonal, diagonal]
        rows, columns = np.tril_indices(d)
        gradient = [(w - g).ravel(), dr.ravel(), dL[:, rows, columns].ravel()]
        return log_c - log_v, np.concatenate(gradient)


def _split(sums, n_components, n_features):
    first = n_components * (n_features + 1)
    linear = sums[:first].reshape(n_components, n_features + 1)
    products = sums[first:].reshape(n_components, n_features, n_features)
    return linear[:, :-1], linear[:, -1:], products
