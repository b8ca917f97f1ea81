"""Entropic optimal transport: Sinkhorn and Newton solvers, maps, affinities and bridges."""

import importlib

_MODULES = {
    "BatchSinkhornResult": "_batch",
    "BridgeDisplay": "_plot_bridge",
    "DoublyStochasticAffinity": "_doubly_stochastic_affinity",
    "EntropicTransport": "_entropic_transport",
    "IterationRecord": "_progress",
    "LightSchrodingerBridge": "_light_schrodinger_bridge",
    "LightSchrodingerBridgeCV": "_light_schrodinger_bridge_cv",
    "SNSResult": "_sns",
    "SNSStep": "_sns",
    "SinkhornConvergenceDisplay": "_plot",
    "SinkhornGradient": "_divergence",
    "SinkhornResult": "_result",
    "TransportAdapter": "_transport_adapter",
    "TransportGap": "_certificates",
    "TransportPlanDisplay": "_plot",
    "conditional_bw_uvp": "_bridge_metrics",
    "round_plan": "_certificates",
    "sinkhorn": "_sinkhorn",
    "sinkhorn_batch": "_batch",
    "sinkhorn_divergence": "_divergence",
    "sinkhorn_gradient": "_divergence",
    "sinkhorn_newton_sparse": "_sns",
    "sinkhorn_path": "_sinkhorn",
    "sinkhorn_points": "_points",
    "transport_gap": "_certificates",
}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
