"""Shallow MLP probes for probekit."""
