"""The I/O half of a pool: metrics pages, name look-ups and the tasks that keep them fresh. It decides nothing."""
