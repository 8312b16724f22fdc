"""Texts of requests and answers: where they stand in the bytes, and how they are replaced there.

What is sensitive in them is for `detectors` to find.
"""
