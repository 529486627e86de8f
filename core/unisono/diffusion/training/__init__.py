"""Training: objectives of diffusion, and gradients through a sampler."""
