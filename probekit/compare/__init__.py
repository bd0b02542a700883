"""Models beside one another: pure functions of results."""

from probekit.compare.k_at import KAt, k_at

__all__ = ["KAt", "k_at"]
