"""Networks that predict tokens of a grid in any order, keep what they know, and the orders they are asked in."""
