"""What a snapshot of the configuration becomes while it is in force; a reload swaps all of it or nothing.

`app` is the composition root: it alone constructs and connects the parts.
"""
