"""What can go wrong between a client and a server, and what the user is warned of."""


class PrivacyBudgetExceeded(RuntimeError):
    """A record would be reported more often than its ledger allows.

    Reports of one record compose: two reports at epsilon each are one at two epsilon.
    """


class ReportError(ValueError):
    """A report, a batch or a state cannot be read, or does not belong here."""


class IncompatibleReportsError(ReportError):
    """Reports or states of different configurations or rounds meet."""


class DuplicateReportError(ReportError):
    """A nonce comes a second time."""


class SimulatedReportError(ReportError):
    """Reports drawn from a reproducible generator come to a server that collects real ones."""


class LowSignalWarning(UserWarning):
    """The known noise of the reports is larger than any coefficient can be."""


class PublicUnitsWarning(UserWarning):
    """Nearly all records of a simulation are clipped: the public units do not fit them."""


class IllConditionedWarning(UserWarning):
    """The private Gram matrix was not safely positive definite and has been regularised."""
