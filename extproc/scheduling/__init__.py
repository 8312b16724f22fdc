"""Flow control: who may proceed, who waits and in which order, who is refused.

Pure: `now` is always an argument. Nothing here knows of HTTP, Redis or the event loop.
"""
