"""Models: pictures by diffusion, and the networks that they need."""
