"""A fixed bank of Gabor filters as a backbone for probekit."""
