"""Pipelines: diffusers' pipelines, unchanged, in few batched rounds."""
