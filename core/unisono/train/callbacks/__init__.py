"""Callbacks: what a run adds to Lightning's Trainer."""
