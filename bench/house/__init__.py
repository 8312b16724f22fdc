"""The state of the code base in figures: `python -m bench.house`."""
