"""`LLMSecurityPolicy`: the printed field names, and everything that a check refuses."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from extproc.resources.kinds.security import SecurityTargets
from extproc.resources.load import load
from tests.resources.manifests import ENVIRON, POOL, PROVIDER, route, said, write

HEAD = "apiVersion: istio.alibabacloud.com/v1beta1\nkind: LLMSecurityPolicy\nmetadata: {name: p}\nspec:\n"
PLACE = "a.yaml:{line}: LLMSecurityPolicy/p $.spec"


def policy(spec: str) -> str:
    """A policy whose `spec` begins on line 5."""
    return HEAD + textwrap.indent(textwrap.dedent(spec), "  ")


def test_the_field_names_of_the_documents_are_understood(tmp_path: Path) -> None:
    text = policy(
        """\
        allow_patterns: [ticket]
        deny_patterns: ['(?i)aurora']
        intelligent_guard: {host: judge.internal, port: 80, path: /v1/chat/completions, model: qwen, api_key: "${KEY}"}
        """
    )
    spec = load(write(tmp_path, a=text, b=PROVIDER), environ=ENVIRON).security["p"].spec
    assert (spec.allow_patterns, spec.deny_patterns) == (["ticket"], ["(?i)aurora"])
    assert spec.judge is not None
    assert (spec.judge.host, spec.judge.api_key) == ("judge.internal", "${KEY}")
    assert spec.judge.when == "always"


@pytest.mark.parametrize(
    ("spec", "line", "problem"),
    [
        ("allowPatterns: [a]\nallow_patterns: [b]", 6, ".allow_patterns: unknown field"),
        ("denyPatterns: ['a(b']", 5, ".denyPatterns[0]: not a valid RE2 pattern: missing )"),
        ("denyPatterns: ['']", 5, ".denyPatterns[0]: not a valid RE2 pattern"),
        ("denyPatterns: ['a*']", 5, ".denyPatterns[0]: not a valid RE2 pattern"),
        ("allowPatterns: ['(?=x)']", 5, ".allowPatterns[0]: not a valid RE2 pattern"),
        ("targets: {providers: [acmee]}", 5, ".targets.providers[0]: there is no provider of this name"),
        ("targets: {hosts: [x.example]}", 5, ".targets.hosts[0]: there is no host of this name"),
        ("targets: {routes: [r/none]}", 5, ".targets.routes[0]: there is no route of this name"),
        ("targets: {pools: [gpu]}", 5, ".targets.pools[0]: there is no pool of this name"),
        ("actions: {EMAL: mask}", 5, ".actions.EMAL: unknown category; did you mean `EMAIL`?"),
        ("actions: {INJECTION: mask}", 5, ".actions.INJECTION: a whole statement cannot be masked"),
        ("actions: {EMAIL: drop}", 5, ".actions.EMAIL: unknown value"),
        ("actions: {JUDGE: report}", 5, ".actions.JUDGE: what this category stands for will pass"),
        ("classifier: {model: nowhere}", 5, ".classifier.model: no model there:"),
        ("classifier: {thresholds: {MEETING: 0.5}}", 5, ".classifier.thresholds.MEETING: unknown category"),
        ("classifier: {thresholds: {INJECTION: 2}}", 5, ".classifier.thresholds.INJECTION: 2 is out of range"),
        ("judge: {host: 'http://x', model: m}", 5, ".judge.host:"),
        ("judge: {host: x, model: ''}", 5, ".judge.model: the judge needs the name of its model"),
        (
            "judge: {host: x, model: m, when: unsure}\nclassifier: {enabled: false}",
            5,
            ".judge: the judge is never asked",
        ),
        ("judge: {host: x, model: m}\ninspect: {messages: none}", 5, ".judge: the judge is never asked"),
        ("actions: {INJECTION: deny}", 5, ".actions.INJECTION: the classifier's score alone denies; "),
        ("actions: {default: deny}", 5, ".actions.default: the classifier's score alone denies; "),
        ("judge: {host: x, model: m, path: v1}", 5, ".judge.path: must start with `/`"),
        ('judge: {host: x, model: m, apiKey: "${NONE}"}', 5, ".judge.apiKey: environment variable `NONE` is not set"),
        ("judge: {host: x, model: m, timeout: 0s}", 5, ".judge.timeout: must be more than 0"),
        ("recognisers: [{name: a, category: abc, pattern: x}]", 5, ".recognisers[0].category: write a category"),
        ("recognisers: [{name: a, category: A, pattern: '('}]", 5, ".recognisers[0].pattern: not a valid RE2 pattern"),
        ("presidio: {}", 5, ".presidio: names no recogniser"),
        ("presidio: {registry: r.yaml}", 5, ".presidio.registry: there is no file"),
        ("presidio: {nlpEngine: n.yaml}", 5, ".presidio.nlpEngine: there is no file"),
        ("presidio: {recognisers: [staff.Badge]}", 5, ".presidio.recognisers[0]: write `module:Class`"),
        ("presidio: {recognisers: ['a:B'], categories: {X: y}}", 5, ".presidio.categories.X: write a category"),
        ("masking: {conversationHeader: 'x y'}", 5, ".masking.conversationHeader: not a valid header name"),
        ("budget: {characters: 0}", 5, ".budget.characters: 0 is out of range"),
    ],
)
def test_what_is_refused(tmp_path: Path, spec: str, line: int, problem: str) -> None:
    found = said(tmp_path, a=policy(spec), b=PROVIDER, c=POOL, d=route("- backendRefs: [{pool: gpus}]\n  name: x\n"))
    assert len(found) == 1
    assert found[0].replace(" warning:", "", 1).startswith(PLACE.format(line=line) + problem), found


def test_a_policy_that_is_good_everywhere(tmp_path: Path) -> None:
    spec = """\
    targets: {providers: [acme], hosts: [chat.example], routes: [r, r/x], pools: [gpus]}
    recognisers: [{name: staff, category: STAFF_ID, pattern: 'E[0-9]{6}', context: [staff]}]
    actions: {STAFF_ID: mask, default: report}
    """
    rules = route("- backendRefs: [{pool: gpus}]\n  name: x\n")
    assert said(tmp_path, a=policy(spec), b=PROVIDER, c=POOL, d=rules) == []


@pytest.mark.parametrize(
    ("targets", "fits"),
    [
        (SecurityTargets(), True),
        (SecurityTargets(hosts=["Chat.example"]), True),
        (SecurityTargets(hosts=["other"]), False),
        (SecurityTargets(routes=["r"]), True),
        (SecurityTargets(routes=["r/x"]), True),
        (SecurityTargets(routes=["r/y"]), False),
        (SecurityTargets(providers=["acme"]), True),
        (SecurityTargets(pools=["acme"]), False),
        (SecurityTargets(hosts=["other"], providers=["acme"]), True),
    ],
)
def test_what_a_policy_is_attached_to(targets: SecurityTargets, fits: bool) -> None:
    assert targets.fit(host="chat.example", route="r", rule="r/x", target="provider/acme") is fits


@pytest.mark.parametrize(
    "spec",
    [
        "judge: {host: x, model: m}\nclassifier: {enabled: false}",
        "judge: {host: x, model: m, when: unsure}",
        "actions: {INJECTION: deny}\nclassifier: {enabled: false}",
        "actions: {INJECTION: report, SECRET: deny}",
    ],
)
def test_nothing_to_warn_of(tmp_path: Path, spec: str) -> None:
    assert said(tmp_path, a=policy(spec), b=PROVIDER) == []


def test_the_measured_false_alarms_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "extproc.resources.checks.security.false_alarms", lambda level: {"INJECTION": 0.004, "BUSINESS_LEGAL": 0.0125}
    )
    found = said(tmp_path, a=policy("actions: {INJECTION: deny, BUSINESS_LEGAL: deny}"), b=PROVIDER)
    assert [each.rpartition(" it refuses ")[2] for each in found] == ["INJECTION 0.40%", "BUSINESS_LEGAL 1.25%"]
