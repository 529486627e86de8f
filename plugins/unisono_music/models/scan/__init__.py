"""State-space models of voices over time: VSSM, and the autoregressive one beside it."""
