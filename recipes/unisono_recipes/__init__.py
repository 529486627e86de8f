"""Recipes that ship with Unisono: one YAML file is one run. See ``unisono recipes``."""
