"""Recipes: one YAML file per run."""
