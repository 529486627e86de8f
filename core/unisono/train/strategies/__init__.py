"""Strategies: how a run uses several processes, by name, by class path, or as an object."""
