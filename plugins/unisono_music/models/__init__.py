"""Models: masked and autoregressive ones of scores."""
