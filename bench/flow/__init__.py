"""Flow control measured: exact shares, simulated fleets, order by predicted length, cost. `python -m bench.flow`."""
