"""Registers the linear probe families. Imports nothing heavy."""

from __future__ import annotations

from probekit.api import ProbePlugin, hookimpl
from probekit_linear.parameters import (
    ForwardSelectionParameters,
    L1PathParameters,
    L2SubsetsParameters,
    McpPathParameters,
    PolynomialParameters,
)


@hookimpl
def probekit_probes() -> list[ProbePlugin]:
    """The L1 path, L2 on its top-k channels, and their products; MCP and greedy selection beside them."""
    return [
        ProbePlugin(
            "l1-path",
            "L1 logistic path: which channels, in which order",
            "probekit_linear.l1_path:L1Path",
            L1PathParameters,
        ),
        ProbePlugin(
            "l2-subsets",
            "L2 logistic refits on the top-k channels of a ranking, and on all",
            "probekit_linear.l2_subsets:L2Subsets",
            L2SubsetsParameters,
            upstream="rank_by",
        ),
        ProbePlugin(
            "polynomial",
            "L2 logistic fit on the top-k channels and their products of two",
            "probekit_linear.polynomial:Polynomial",
            PolynomialParameters,
            upstream="rank_by",
        ),
        ProbePlugin(
            "mcp-path",
            "logistic path under a concave penalty (MCP): few channels, hardly shrunk",
            "probekit_linear.mcp_path:McpPath",
            McpPathParameters,
        ),
        ProbePlugin(
            "forward-selection",
            "greedy logistic fits on 1 to k channels: the reference for small k",
            "probekit_linear.forward_selection:ForwardSelection",
            ForwardSelectionParameters,
        ),
    ]
