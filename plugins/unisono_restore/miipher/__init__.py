"""Miipher-2: restoration by cleaning the features of a frozen encoder."""
