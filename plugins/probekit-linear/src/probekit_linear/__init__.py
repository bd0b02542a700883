"""Sparse and ridge-penalised logistic regression on tall dense rows, and the linear probe families made of it.

The functions and estimators named here work on arrays and need nothing of probekit; each is imported when it is first
asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probekit_linear.estimators import SparseLogisticPath, SubsetLogistic
    from probekit_linear.solve.forward import ForwardPath, forward_path
    from probekit_linear.solve.lasso import LogisticPath, logistic_path
    from probekit_linear.solve.mcp import ConcavePath, concave_path
    from probekit_linear.solve.ridge import RidgeSubsets, ridge_subsets

__all__ = [
    "ConcavePath", "ForwardPath", "LogisticPath", "RidgeSubsets", "SparseLogisticPath", "SubsetLogistic",
    "concave_path", "forward_path", "logistic_path", "ridge_subsets",
]  # fmt: skip

_HOMES = {
    "ConcavePath": "probekit_linear.solve.mcp",
    "ForwardPath": "probekit_linear.solve.forward",
    "LogisticPath": "probekit_linear.solve.lasso",
    "RidgeSubsets": "probekit_linear.solve.ridge",
    "SparseLogisticPath": "probekit_linear.estimators",
    "SubsetLogistic": "probekit_linear.estimators",
    "concave_path": "probekit_linear.solve.mcp",
    "forward_path": "probekit_linear.solve.forward",
    "logistic_path": "probekit_linear.solve.lasso",
    "ridge_subsets": "probekit_linear.solve.ridge",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
