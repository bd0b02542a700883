"""Executes a plan: from a spec to a finished run on disk."""
