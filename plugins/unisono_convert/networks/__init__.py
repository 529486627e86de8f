"""Networks that several models of conversion are made of."""
