"""Usage of every exchange, settled exactly once."""
