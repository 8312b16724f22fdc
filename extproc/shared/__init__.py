"""State that several filters share, in Redis.

Imported only where Redis is configured.
"""
