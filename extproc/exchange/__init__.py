"""One HTTP request and its response as a state table: events in, actions out.

No I/O and no clock; what an answer needs is decided in `steps`.
"""
