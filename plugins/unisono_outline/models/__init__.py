"""Models: all vertices at once by diffusion, and one after the other."""
