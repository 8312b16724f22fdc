"""HTTP for operators: health, metrics, effective configuration, policies.

It shows and passes commands on; it holds no state.
"""
