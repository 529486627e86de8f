"""Matcha-TTS: an encoder's mean mel made sharp by flow matching (Mehta et al., arXiv:2309.03199).

model.py     the model: losses, durations, speaking
decoder.py   the U-Net that answers with the flow
blocks.py    its parts: residual convolutions, transformer blocks, snake
sizes.py     sizes and weights of the losses
"""
