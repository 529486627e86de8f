"""DDNM: restoration by any diffusion prior, whose estimate is corrected in the range of the measurement."""
