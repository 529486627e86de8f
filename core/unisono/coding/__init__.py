"""Entropy coding: whole numbers as bytes, each by a table of its own; the same bytes on every machine."""

from unisono.coding.gaussian import gaussian_tables, scale_grid
from unisono.coding.rans import Decoder, Encoder
from unisono.coding.tables import MAX_CODES, ONE, PRECISION, Tables

__all__ = ["MAX_CODES", "ONE", "PRECISION", "Decoder", "Encoder", "Tables", "gaussian_tables", "scale_grid"]
