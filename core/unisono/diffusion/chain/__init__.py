"""Chain: the serial sampler as a recurrence, and its replay."""
