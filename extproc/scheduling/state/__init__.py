"""What flow control counts: claims and grants, token buckets, slots, and the store in memory.

The store in Redis is `shared`.
"""
