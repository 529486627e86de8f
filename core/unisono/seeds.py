"""Seeds: the one range that requests, sweeps and samplers accept."""

MAX_SEED = 2**63 - 1
"""The largest seed; the smallest is 0. A seed is a non-negative 64-bit integer everywhere."""
