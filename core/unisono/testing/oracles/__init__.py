"""Oracles: exact networks and distributions that samplers are measured against."""

from unisono.testing.oracles.diffusion import Gaussian, ImageMixture, Mixture, RowByRow

__all__ = ["Gaussian", "ImageMixture", "Mixture", "RowByRow"]
