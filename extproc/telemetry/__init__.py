"""Metric names and labels, access log fields, audit lines.

Nothing here decides, and no label is unbounded.
"""
