"""Metric names and labels, access log fields, audit lines."""
