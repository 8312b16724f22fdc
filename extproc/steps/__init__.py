"""What happens to a request, in one visible ordered list (`pipeline`), and to its answer (`answers`).

A step that may wait is a generator (`wait`). No I/O and no clock.
"""
