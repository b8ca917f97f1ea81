"""What a solver reports on its way."""

from typing import NamedTuple


class IterationRecord(NamedTuple):
    """One step of a solver for entropic transport.

    Parameters
    ----------
    stage : str
        What the step was: "log", "kernel", "truncated" (sweeps over rows and columns),
        "newton" or "sns".
    epsilon : float
        Its regularisation; a solver may come down to the wanted one in levels.
    marginal_error : float
        Distance of the plan from its marginals after the step, for a total mass of one; for
        marginals that are not hard, the largest change of a potential divided by epsilon.
    n_cg : int
        Steps of conjugate gradients that it took.
    """

    stage: str
    epsilon: float
    marginal_error: float
    n_cg: int = 0


class Progress:
    """Collect the records of a solver, and let a listener stop it.

    Parameters
    ----------
    max_iter : int
        Largest number of sweeps and Newton steps in all.
    listener : callable or None, default=None
        Called after every step with the record, the potentials ``u`` and ``v``, and the
        scalings of rows and columns that come on top of them, or None; a true result stops
        the solver.
    """

    def __init__(self, max_iter, listener=None):
        self.max_iter = max_iter
        self.history = []
        self.stopped = False
        self._listener = listener

    @property
    def exhausted(self):
        """Whether the solver must end here."""
        return self.stopped or len(self.history) >= self.max_iter

    def add(self, record, u, v, scalings=None):
        """Note a step that has just been done."""
        self.history.append(record)
        if self._listener is not None:
            self.stopped |= bool(self._listener(record, u, v, scalings))
