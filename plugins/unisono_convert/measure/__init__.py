"""Measures of conversion: whose voice is heard, which words, and simpler ways to convert."""
