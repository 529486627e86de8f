"""Parallel Tacotron: mels in one pass, with latents for what a text leaves open (arXiv:2010.11439, arXiv:2103.14574).

sizes.py       the groups of the ``model:`` section
network.py     text encoder, durations, upsampling by repetition, iterative decoder
latents.py     posterior, prior, and what the rest of the network sees of latents
losses.py      the reconstructions: frame by frame, or along soft-DTW's paths
model.py       ParallelTacotron
"""
