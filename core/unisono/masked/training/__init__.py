"""Training: corruption that is what decoding will see, and the losses on it."""
