"""Vaults of conversations: the placeholders that later requests of the same conversation need again."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

from detectors.masking import Vault

MOST_CONVERSATIONS = 10_000
"""Conversations whose placeholders are kept; the one longest unused goes first."""


class Conversations:
    """Placeholders of conversations that asked for them, by name; forgotten some time after their last use."""

    def __init__(self, most: int = MOST_CONVERSATIONS) -> None:
        self._most = most
        self._vaults: OrderedDict[str, tuple[float, Vault]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Conversations: {len(self._vaults)}>"

    def vault(self, key: str, now: float, ttl: float) -> Vault:
        """The vault of this conversation, kept until `now + ttl`."""
        for name, (until, _) in tuple(self._vaults.items())[:8]:
            if until < now:
                del self._vaults[name]
        until, vault = self._vaults.pop(key, (-math.inf, Vault()))
        if until < now:
            vault = Vault()
            vault.lock = threading.Lock()
        self._vaults[key] = now + ttl, vault
        if len(self._vaults) > self._most:
            self._vaults.popitem(last=False)
        return vault
