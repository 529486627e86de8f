"""Stages: the eight of a masked decoding step, and the schedules, orders and marginals that they read."""
