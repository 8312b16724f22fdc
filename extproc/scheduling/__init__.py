"""Flow control, pure: who may proceed, who waits and in which order, who is refused. `now` is always an argument."""
