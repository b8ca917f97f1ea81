"""Statistics under local differential privacy: randomizers, reports, aggregation, estimators.

Names are loaded on first use, so that a client that imports :class:`LDPConfig` and
:class:`Randomizer` loads numpy and the standard library only.
"""

import importlib

_MODULES = {
    "AuditResult": "_audit",
    "DuplicateReportError": "_errors",
    "IllConditionedWarning": "_errors",
    "IncompatibleReportsError": "_errors",
    "LDPCVDisplay": "_plot_selection",
    "LDPCoefficientDisplay": "_plot",
    "LDPConfig": "_config",
    "LDPIHTClassifier": "_ldp_iht_classifier",
    "LDPIHTRegressor": "_ldp_iht",
    "LDPIHTServer": "_iht_server",
    "LDPSparseRegressorCV": "_ldp_cv",
    "LDPPathDisplay": "_plot",
    "LDPPlan": "_planning",
    "LDPSparseRegressor": "_ldp_regressor",
    "LabelLDPRegressor": "_label",
    "LowSignalWarning": "_errors",
    "MomentAggregator": "_aggregator",
    "NoisyMoments": "_aggregator",
    "PrivacyBudgetExceeded": "_errors",
    "PrivacySpec": "_config",
    "PublicUnitsWarning": "_errors",
    "Query": "_query",
    "Randomizer": "_client",
    "Report": "_reports",
    "ReportBatch": "_reports",
    "ReportError": "_errors",
    "SimulatedReportError": "_errors",
    "SimulationRandomizer": "_simulation",
    "SupportStabilityDisplay": "_plot_selection",
    "aggregate_shard": "_shards",
    "aggregate_shards": "_shards",
    "analytic_gaussian_sigma": "_accounting",
    "audit_randomizer": "_audit",
    "audit_scores": "_audit",
    "bounds_from_public": "_public",
    "ldp_coef_path": "_path",
    "plan_ldp": "_planning",
    "shuffle_amplification": "_accounting",
    "support_stability": "_stability",
}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
