"""Corpus: what outlines are learnt from, made scenes and pictures with phrases and polygons of one's own."""
