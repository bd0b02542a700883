"""The families keep what every probe must."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import ClassVar

from probekit_linear.plugin import probekit_probes

from probekit.testing.probes import ProbeContract

L1, L2, POLYNOMIAL, MCP, FORWARD = probekit_probes()
QUICK = {"lambda_ratio": {"points": 8, "min": 0.01}, "target_gap": 1e-9}
BY_C = {"C": [1, 0.01, 0.1, 1e-3], "target_gap": 1e-9}
SUBSETS = {"rank_by": "l1", "k": [2, 5, 50, "all"], "widths": 4, "ridges": [0.01, 1.0], "target_gap": 1e-9}
PAIRS = {"rank_by": "l1", "k": 4, "ridges": [1.0, 0.1], "target_gap": 1e-9}
SQUARES = {"rank_by": "l1", "k": 20, "squares": True, "ridges": [0.1], "target_gap": 1e-9}


class TestL1Path(ProbeContract):
    plugin = L1
    parameters = QUICK


class TestL1PathByC(ProbeContract):
    plugin = L1
    parameters = BY_C


class TestL2Subsets(ProbeContract):
    plugin = L2
    parameters = SUBSETS
    upstream = (L1, QUICK)


class TestPolynomial(ProbeContract):
    plugin = POLYNOMIAL
    parameters = PAIRS
    upstream = (L1, QUICK)


class TestPolynomialWithSquares(ProbeContract):
    plugin = POLYNOMIAL
    parameters = SQUARES
    upstream = (L1, QUICK)


class TestMcpPath(ProbeContract):
    plugin = MCP
    parameters = QUICK


class TestForwardSelection(ProbeContract):
    plugin = FORWARD
    parameters: ClassVar = {"k": 5}


class TestForwardSelectionOfAll(ProbeContract):
    plugin = FORWARD
    parameters: ClassVar = {"k": 20, "ridge": 0.01}


class TestL2SubsetsRankedByMcp(ProbeContract):
    plugin = L2
    parameters = SUBSETS
    upstream = (MCP, QUICK)


def test_listing_the_plugin_imports_nothing_heavy():
    code = "import sys, json, probekit_linear.plugin as p; p.probekit_probes(); print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert not {"torch", "scipy", "sklearn", "pandas"} & set(loaded)
