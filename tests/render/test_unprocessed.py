"""The way of requests that the filter has not seen, derived rule by rule."""

from __future__ import annotations

import pytest

from extproc.render.unprocessed import Unprocessed, open_pool, unprocessed_steps
from extproc.resources.base import StringMatch
from extproc.resources.kinds.route import RequestMatch, Rule
from extproc.resources.snapshot import Snapshot
from tests.render.harness import snapshot

RESOURCES = """
pool p: {endpoints: [{address: '10.0.0.1:80'}]}
pool q: {endpoints: [{address: '10.0.0.2:80'}]}
pool shut: {endpoints: [{address: '10.0.0.3:80'}], failureMode: closed}
provider x: {host: api.example.com}
"""

GOLD = "{headers: {x-tier: {exact: gold}}}"
CHAT = "{path: {prefix: /v1/chat}}"
TO_P = "backendRefs: [{pool: p}]"
TO_Q = "backendRefs: [{pool: q}]"
TO_X = "backendRefs: [{provider: x}]"

IS_GOLD = RequestMatch(headers={"x-tier": StringMatch(exact="gold")})
IS_CHAT = RequestMatch(path=StringMatch(prefix="/v1/chat"))


def rules(*texts: str) -> tuple[list[Rule], Snapshot]:
    listed = ", ".join(f"{{{text}}}" for text in texts)
    found = snapshot(f"{RESOURCES}\nroute r: {{host: h, rules: [{listed}]}}")
    return found.routes["r"].spec.rules, found


def steps(*texts: str) -> list[tuple[RequestMatch | None, str | None]]:
    return [(step.match, step.pool) for step in unprocessed_steps(*rules(*texts))]


@pytest.mark.parametrize(
    ("rule", "pool"),
    [
        (TO_P, "p"),
        ("backendRefs: [{pool: p, weight: 3}, {backendRef: {name: p}}]", "p"),
        ("backendRefs: [{pool: p}, {pool: q}]", None),
        ("backendRefs: [{pool: p}, {provider: x}]", None),
        ("backendRefs: [{pool: shut}]", None),
        ("backendRefs: []", None),
        (TO_X, None),
        ("backendRefs: [{providerHost: api.example.com}]", None),
        ("backendRefs: [{pool: p, model: m}]", None),
        (f"{TO_P}, systemPrompt: {{prepend: be kind}}", None),
        (f"{TO_P}, parameters: {{defaults: {{seed: 1}}}}", None),
        (f"{TO_P}, parameters: {{caps: {{max_tokens: 10}}}}", None),
        (f"{TO_P}, requestHeaders: {{remove: [cookie]}}", None),
        (f"{TO_P}, requestHeaders: {{set: {{a: b}}}}", None),
        (f"{TO_P}, responseHeaders: {{remove: [server]}}", None),
        (f"{TO_P}, responseModel: requested", None),
        (f"{TO_P}, nonJsonBodies: pass", "p"),
        (f"{TO_P}, name: any", "p"),
    ],
)
def test_a_rule_is_open_if_it_only_steers(rule: str, pool: str | None) -> None:
    (found,), snap = rules(rule)
    assert open_pool(found, snap) == pool


def test_the_last_step_takes_every_request() -> None:
    assert unprocessed_steps([], snapshot("")) == (Unprocessed(None, None),)
    assert steps(TO_P) == [(None, "p")]
    assert steps(TO_X) == [(None, None)]


def test_conditions_that_envoy_evaluates_stay() -> None:
    assert steps(f"matches: [{GOLD}], {TO_X}", f"matches: [{CHAT}], {TO_P}", TO_Q) == [
        (IS_GOLD, None),
        (IS_CHAT, "p"),
        (None, "q"),
    ]


def test_each_of_several_matches_is_enough() -> None:
    assert steps(f"matches: [{GOLD}, {CHAT}], {TO_P}") == [(IS_GOLD, "p"), (IS_CHAT, "p"), (None, None)]


def test_what_no_rule_matches_is_closed() -> None:
    assert steps(f"matches: [{GOLD}], {TO_P}") == [(IS_GOLD, "p"), (None, None)]


def test_rules_after_a_default_do_not_count() -> None:
    assert steps(TO_P, TO_X) == [(None, "p")]
    assert steps(f"matches: [{GOLD}, {{}}], {TO_P}", TO_X) == [(None, "p")]


@pytest.mark.parametrize("condition", ["model: {exact: m}", "sourceLabels: {team: a}", "claims: {tier: {exact: gold}}"])
class TestConditionsOnlyTheFilterKnows:
    def test_the_rest_is_open_if_it_leads_to_one_pool(self, condition: str) -> None:
        assert steps(f"matches: [{{{condition}}}], {TO_P}", TO_P) == [(None, "p")]
        assert steps(f"matches: [{GOLD}], {TO_X}", f"matches: [{{{condition}}}], {TO_P}", TO_P) == [
            (IS_GOLD, None),
            (None, "p"),
        ]

    def test_the_rest_is_closed_if_it_may_lead_elsewhere(self, condition: str) -> None:
        assert steps(f"matches: [{{{condition}}}], {TO_P}", TO_Q) == [(None, None)]
        assert steps(f"matches: [{{{condition}}}], {TO_X}", TO_P) == [(None, None)]
        assert steps(f"matches: [{{{condition}}}], {TO_P}", f"matches: [{GOLD}], {TO_X}", TO_P) == [(None, None)]

    def test_one_such_match_among_others_is_enough(self, condition: str) -> None:
        assert steps(f"matches: [{GOLD}, {{{condition}}}], {TO_P}", TO_Q) == [(None, None)]


def test_without_a_default_conditions_on_the_caller_still_guard() -> None:
    assert steps(f"matches: [{{model: {{exact: m}}}}], {TO_P}") == [(None, "p")]
    assert steps(f"matches: [{{claims: {{tier: {{exact: gold}}}}}}], {TO_P}") == [(None, None)]
    assert steps(f"matches: [{{sourceLabels: {{team: a}}}}], {TO_P}") == [(None, None)]
