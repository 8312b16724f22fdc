"""The declarative API: loaded strictly, checked as a whole, frozen into one snapshot.

Nothing here is live: it reads files and environment, and knows no event loop but that of `watch`.
"""
