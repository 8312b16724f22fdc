"""Recognisers of structured values: numbers and addresses with a grammar, a checksum or a label.

`rules` says what a rule is, one module per family holds them, and `engine` runs them.
"""
