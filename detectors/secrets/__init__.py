"""Secrets: keys and tokens of vendors, private keys, connection strings, passwords and random values by name.

A rule is written from the format that its vendor publishes. What counts and what does not:

- a value that says itself that it is an example or a stand-in (`AKIA…EXAMPLE`, `your-api-key`, `xxxxx`, `<token>`,
  `${VAR}`) is not reported, nor is one that repeats a character or two where a rule asks for randomness;
- a UUID, a hash or another random value without a name beside it is not reported;
- identifiers that vendors call public (client ids, account ids, bucket names, publishable keys) are not reported;
- `Authorization: Basic` is reported if it decodes to a login; a run of base64 or percent escapes is decoded once, up
  to the bounds in `decoded`, and is reported as a whole if a secret stands in it.
"""

from __future__ import annotations

from detectors.secrets.rules import SecretRule
from detectors.secrets.scan import Secrets

__all__ = ["SecretRule", "Secrets"]
