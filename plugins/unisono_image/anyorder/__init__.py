"""Any order: networks that predict tokens of a grid in any order, the orders, and what is kept between steps."""
