"""MP-SENet: parallel denoising of magnitude and phase."""
