"""Networks: what several models of conversion are made of."""
