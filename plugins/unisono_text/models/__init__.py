"""Models: diffusion language models, and the autoregressive one."""
