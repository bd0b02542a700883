"""Rendered nursery scenes with exact masks, as a label source for probekit."""
