"""Files: recordings as .uc files, and the entropy coding in them."""
