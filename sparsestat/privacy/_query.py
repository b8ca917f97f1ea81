"""What the server of an interactive campaign broadcasts at the beginning of a round."""

import json
import math
from dataclasses import dataclass

from sparsestat.privacy._errors import ReportError


@dataclass(frozen=True)
class Query:
    """The point of one round, at which clients report the gradient of their loss.

    A query is public. Whatever point it holds, a report on it is as private as the
    configuration says, because gradients are clipped: (epsilon, delta)-locally differentially
    private for the replacement of one record, with delta 0 for the pure mechanisms. That
    somebody answers in this round is outside the guarantee.

    Parameters
    ----------
    fingerprint : bytes
        The configuration of the campaign, see :meth:`LDPConfig.fingerprint`.
    round : int
        Number of the round, from 1.
    theta : tuple of float
        The point, in public units, one number for each column.
    """

    fingerprint: bytes
    round: int
    theta: tuple[float, ...]

    def to_json(self):
        """Write the query as JSON.

        Returns
        -------
        text : str
        """
        return json.dumps(
            {
                "fingerprint": self.fingerprint.hex(),
                "round": self.round,
                "theta": list(self.theta),
            },
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text):
        """Read what :meth:`to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            The JSON.

        Returns
        -------
        query : Query

        Raises
        ------
        ReportError
            If the text is no query.
        """
        try:
            values = json.loads(text)
            if not isinstance(values["round"], int) or not isinstance(values["theta"], list):
                raise TypeError("round must be an integer and theta a list")
            query = cls(
                bytes.fromhex(values["fingerprint"]),
                values["round"],
                tuple(float(value) for value in values["theta"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ReportError(
                f"text must be the JSON of a query ({type(error).__name__}: {error})."
            ) from error
        if not all(map(math.isfinite, query.theta)):
            raise ReportError("text must be a query at a finite point, it holds NaN or infinity.")
        return query
