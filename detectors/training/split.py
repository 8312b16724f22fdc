"""Which rows are kept out of training, so that the repository's own measurements look at text the model never saw."""

import hashlib

HELD_SHARE = 0.25


def held_out(source: str, group: str, share: float = HELD_SHARE) -> bool:
    """Whether the rows of GROUP in SOURCE belong to the part that training never reads.

    Decided by a hash of both names, so that all rows of one seed, meeting or minimal pair fall on one side, on any
    machine and whatever else is in the set.
    """
    digest = hashlib.sha256(f"{source}\x00{group}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32
