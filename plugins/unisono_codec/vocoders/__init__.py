"""Vocoders: features to waveforms."""
