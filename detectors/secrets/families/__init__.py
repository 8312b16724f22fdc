"""Rules by family, each written from the format that the vendor publishes."""

from __future__ import annotations

from detectors.secrets.families import business, china, cloud, code, commands, keys, models, stores, talk
from detectors.secrets.rules import SecretRule

ALL: tuple[SecretRule, ...] = (
    *cloud.RULES,
    *code.RULES,
    *models.RULES,
    *talk.RULES,
    *business.RULES,
    *china.RULES,
    *stores.RULES,
    *commands.RULES,
    *keys.RULES,
)
