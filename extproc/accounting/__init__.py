"""Usage of every exchange, settled exactly once, and estimated where an answer reports none.

What is counted is printed by `telemetry`.
"""
