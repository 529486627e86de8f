"""Lifting: joints in a picture become joints in space."""
