"""Which requests a traffic policy is for: selectors, and what they say as conditions on labels."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import field

from extproc.resources.base import Spec
from extproc.scheduling.labels import AnyOf, Condition
from extproc.scheduling.policy import Conditions
from extproc.scheduling.workloads import LabelMatcher, matcher_conditions

ANY_SERVICE = ("", "any", "*")
"""What `service` says for every host."""


class Selector(Spec, frozen=True, kw_only=True):
    """Requests that a policy is for: all conditions given must hold."""

    service: str = ""
    """Host of the route, as in `LLMRoute` `spec.host`. Empty or `any`: every host."""
    agent_group: str = ""
    """Accepted for compatibility and not looked at: one gateway is one group."""
    control_point: str = ""
    """Likewise: every request passes one point."""
    label_matcher: LabelMatcher = field(default_factory=LabelMatcher)


def match_of(selectors: Sequence[Selector]) -> Conditions:
    """Requests that any of the selectors fits; all of them where there is none."""
    alternatives = tuple(dict.fromkeys(selector_conditions(each) for each in selectors))
    if not alternatives or () in alternatives:
        return ()
    return alternatives[0] if len(alternatives) == 1 else (AnyOf(alternatives),)


def selector_conditions(selector: Selector) -> tuple[Condition, ...]:
    """All that one selector asks for."""
    matcher = matcher_conditions(selector.label_matcher)
    if selector.service in ANY_SERVICE:
        return matcher
    return (Condition("host", "equals", (selector.service,)), *matcher)
