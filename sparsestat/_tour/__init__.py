"""The tour: every family fitted to real data, with a table on the screen and an HTML report.

A family joins by adding one file here, with a module-level ``TITLE`` and ``STEPS``
(see :mod:`sparsestat._tour._linear_model`), and its name to `FAMILIES`.
"""

FAMILIES = ("linear_model", "dag", "privacy", "transport")
"""Names of the families that have a tour, in the order in which they are shown."""

REQUIRED = ("matplotlib", "pandas", "rich")
"""Packages of the ``tour`` extra, which a plain installation does not have."""
