"""Solvers: fixed points over windows of a chain."""
