"""Measures: success, evaluations of the network and time of policies."""
