"""Selectors and label matchers of the traffic policies as conditions on labels."""

from __future__ import annotations

from collections.abc import Sequence

from extproc.resources.kinds.workloads import LabelMatcher, Selector
from extproc.scheduling.labels import AnyOf, Condition, Operator
from extproc.scheduling.policy import Conditions

ANY_SERVICE = ("", "any", "*")
"""What `service` says for every host."""
_OPERATORS: dict[str, Operator] = {"In": "in", "NotIn": "notIn", "Exists": "exists", "DoesNotExist": "doesNotExist"}


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


def matcher_conditions(matcher: LabelMatcher) -> tuple[Condition, ...]:
    """All that one label matcher asks for, each pattern with a prefix, a regular expression, or both."""
    found = [Condition(key, "equals", (value,)) for key, value in matcher.match_labels.items()]
    found += [Condition(each.key, _OPERATORS[each.operator], tuple(each.values)) for each in matcher.match_expressions]
    for pattern in matcher.match_patterns:
        if pattern.prefix is not None:
            found.append(Condition(pattern.key, "prefix", (pattern.prefix,)))
        if pattern.regex is not None:
            found.append(Condition(pattern.key, "regex", (pattern.regex,)))
    return tuple(found)
