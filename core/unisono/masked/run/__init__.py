"""Run: one step, the executors, the counted network handle, caches and windows of masked decoding."""
