"""Glow-TTS: a normalising flow that speaks, and aligns texts with recordings by its own likelihood (arXiv:2005.11129).

sizes.py     of the flow
decoder.py   mels to latents and back
prior.py     where the latents of a symbol lie, and which frames are a symbol's
blanks.py    tokens between symbols
model.py     the model
"""
