"""Solvers for penalised logistic regression on tall dense rows. They know arrays, and nothing of probekit."""
