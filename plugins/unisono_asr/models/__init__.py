"""Models: recognisers by CTC, and Paraformer."""
