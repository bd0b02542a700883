"""The conformance contract of ``centroids``."""

from probekit_centroid import probekit_probes

from probekit.testing.probes import ProbeContract


class TestCentroids(ProbeContract):
    (plugin,) = probekit_probes()
