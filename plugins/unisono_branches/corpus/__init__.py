"""Corpus: tagged texts, lists to sort, bytes; made on the spot or read from files."""
