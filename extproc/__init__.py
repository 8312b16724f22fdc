"""Sluice, the filter: one room for each concern, and no module loose beside them.

`docs/architecture.md` says which room may know which.
"""
