"""Checks of `LLMSecurityPolicy`: targets, patterns, categories, the judge's key."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from detectors.alarms import false_alarms
from detectors.findings import CATEGORIES
from detectors.patterns import PatternError, PatternSet, UserPattern
from detectors.policy import NEVER_MASKED, STATEMENTS
from extproc.resources.addresses import bad_host
from extproc.resources.checks.destinations import check_key
from extproc.resources.checks.scope import Located, Scope
from extproc.resources.checks.values import bad_header, bad_path
from extproc.resources.kinds.security import (
    ClassifierSettings,
    Judge,
    LLMSecurityPolicy,
    LLMSecurityPolicySpec,
    PresidioSource,
    SecurityTargets,
)
from extproc.resources.problems import Problem, nearest
from extproc.resources.shape import Path

_CATEGORY = re.compile("[A-Z][A-Z0-9_]{0,63}")
_CLASS = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LONGEST_PATTERN = 4096
_UNSPANNED = frozenset(("ALLOW_PATTERN", "JUDGE", "UNCHECKED"))


def check_security(scope: Scope) -> Iterator[Problem]:
    """All checks of all security policies."""
    for at, policy in scope.of(LLMSecurityPolicy):
        spec = policy.spec
        yield from _targets(scope, at, spec.targets)
        for name, patterns in (("denyPatterns", spec.deny_patterns), ("allowPatterns", spec.allow_patterns)):
            for index, pattern in enumerate(patterns):
                yield from _pattern(at, ("spec", name, index), pattern)
        own: set[str] = set()
        names: set[str] = set()
        for index, recogniser in enumerate(spec.recognisers):
            path: Path = ("spec", "recognisers", index)
            yield from _pattern(at, (*path, "pattern"), recogniser.pattern)
            if not _CATEGORY.fullmatch(recogniser.category):
                yield at.error((*path, "category"), "write a category in capital letters, digits and `_`")
            if recogniser.name in names:
                yield at.error((*path, "name"), "another recogniser has this name")
            names.add(recogniser.name)
            own.add(recogniser.category)
        own.update(spec.classifier.labels.values())
        if spec.presidio is not None:
            own.update(spec.presidio.categories.values())
            yield from _presidio(scope, at, spec.presidio)
        foreign = spec.classifier.model is not None or spec.presidio is not None
        yield from _actions(at, spec.actions, own, any_category=foreign)
        yield from _classifier(scope, at, spec.classifier)
        yield from _denied_by_score(at, spec)
        if spec.judge is not None:
            yield from _judge(scope, at, spec.judge)
            if said := _never_asked(spec):
                yield at.warning(("spec", "judge"), f"the judge is never asked: {said}")
        header = spec.masking.conversation_header
        gateway = scope.snapshot.gateway.spec
        if header is not None and (said := bad_header(header)):
            yield at.error(("spec", "masking", "conversationHeader"), said)
        elif header is not None and not (gateway.sources or gateway.jwt):
            yield at.warning(
                ("spec", "masking", "conversationHeader"),
                "no caller is known: conversations are kept only for those who send a credential of their own",
                "add `sources` or `jwt` to the Gateway",
            )


def _targets(scope: Scope, at: Located, targets: SecurityTargets) -> Iterator[Problem]:
    if not scope.complete:
        return
    snapshot = scope.snapshot
    routes = list(snapshot.effective_routes())
    rules = [f"{route.metadata.name}/{rule.name}" for route in routes for rule in route.spec.rules if rule.name]
    known: dict[str, tuple[list[str], Collection[str]]] = {
        "hosts": (targets.hosts, [route.spec.host for route in routes]),
        "routes": (targets.routes, [*(route.metadata.name for route in routes), *rules]),
        "providers": (targets.providers, snapshot.providers),
        "pools": (targets.pools, snapshot.pools),
    }
    for field, (given, there) in known.items():
        for index, name in enumerate(given):
            if name not in there:
                message = f"there is no {field.removesuffix('s')} of this name, so the policy guards nothing there"
                yield at.error(("spec", "targets", field, index), message, nearest(name, there))


def _pattern(at: Located, path: Path, pattern: str) -> Iterator[Problem]:
    if len(pattern) > _LONGEST_PATTERN:
        yield at.error(path, f"longer than {_LONGEST_PATTERN} characters")
        return
    try:
        PatternSet(deny=[UserPattern("", pattern)])
    except PatternError as error:
        place = "" if error.position is None else f"at character {error.position}"
        yield at.error(path, f"not a valid RE2 pattern: {error.reason}", place)


def _actions(at: Located, actions: Mapping[str, str], own: set[str], *, any_category: bool) -> Iterator[Problem]:
    known = {*CATEGORIES, *own, "default"}
    for category, action in actions.items():
        path: Path = ("spec", "actions", category)
        if category not in known:
            if any_category:  # a label of the model, or an entity of Presidio's
                continue
            yield at.error(path, "unknown category", nearest(category, known))
        elif action == "mask" and category in NEVER_MASKED:
            yield at.error(path, "a whole statement cannot be masked", "write `deny` or `report`")
        elif action == "report" and category in _UNSPANNED:
            yield at.warning(path, "what this category stands for will pass")


def _classifier(scope: Scope, at: Located, classifier: ClassifierSettings) -> Iterator[Problem]:
    path: Path = ("spec", "classifier")
    if classifier.model is not None:
        directory = scope.snapshot.directory / classifier.model
        if not (directory / "config.json").is_file():
            yield at.error((*path, "model"), f"no model there: {directory / 'config.json'} does not exist")
    elif classifier.thresholds:
        for category in classifier.thresholds:
            if category not in CATEGORIES:
                yield at.error((*path, "thresholds", category), "unknown category", nearest(category, CATEGORIES))


def _presidio(scope: Scope, at: Located, presidio: PresidioSource) -> Iterator[Problem]:
    path: Path = ("spec", "presidio")
    if not (presidio.recognisers or presidio.registry or presidio.nlp_engine):
        yield at.error(path, "names no recogniser", "write `recognisers`, `registry` or `nlpEngine`")
    for name, file in (("registry", presidio.registry), ("nlpEngine", presidio.nlp_engine)):
        if file is not None and not (scope.snapshot.directory / file).is_file():
            yield at.error((*path, name), f"there is no file {scope.snapshot.directory / file}")
    for index, recogniser in enumerate(presidio.recognisers):
        if _CLASS.fullmatch(recogniser) is None:
            yield at.error((*path, "recognisers", index), "write `module:Class`")
    for entity, category in presidio.categories.items():
        if category and not _CATEGORY.fullmatch(category):
            yield at.error((*path, "categories", entity), "write a category in capital letters, digits and `_`")


def _denied_by_score(at: Located, spec: LLMSecurityPolicySpec) -> Iterator[Problem]:
    """What denying on the local classifier's score alone costs, at each place where a policy chooses it."""
    if not spec.classifier.enabled or spec.classifier.model is not None:
        return
    measured = false_alarms(level=spec.classifier.level)
    for category, action in spec.actions.items():
        if action != "deny" or category not in STATEMENTS | {"default"}:
            continue
        meant = [category] if category in STATEMENTS else sorted(STATEMENTS - set(spec.actions))
        rates = {name: measured[name] for name in meant if name in measured and name not in spec.classifier.thresholds}
        if rates:
            said = ", ".join(f"{name} {rate:.2%}" for name, rate in sorted(rates.items()))
            said = f"of harmless texts held out from its training it refuses {said}"
        else:
            said = "how many harmless texts that refuses is not measured for this threshold"
        yield at.warning(("spec", "actions", category), f"the classifier's score alone denies; {said}")


def _never_asked(spec: LLMSecurityPolicySpec) -> str:
    """Why no text of this policy ever reaches the judge; an empty string where some may."""
    if spec.inspect.messages == "none":
        return "`inspect.messages` is `none`, and it is asked about what users say"
    if spec.judge is None or spec.judge.when == "always":
        return ""
    if not spec.classifier.enabled:
        return "`when: unsure` waits for the classifier, which is off; write `when: always`"
    if all(spec.actions.get(name) == "report" for name in STATEMENTS):
        return "`when: unsure` waits for statements, and `actions` reports all of them"
    labels = set(spec.classifier.labels.values())
    if spec.classifier.model is not None and labels and not labels & STATEMENTS:
        return "`when: unsure` waits for statements, and no label of `classifier.labels` is one"
    return ""


def _judge(scope: Scope, at: Located, judge: Judge) -> Iterator[Problem]:
    path: Path = ("spec", "judge")
    if bad := bad_host(judge.host, " and `port:` beside it"):
        yield at.error((*path, "host"), *bad)
    if said := bad_path(judge.path):
        yield at.error((*path, "path"), said)
    if judge.api_key is not None:
        yield from check_key(scope, at, (*path, "apiKey"), judge.api_key)
    if not judge.model:
        yield at.error((*path, "model"), "the judge needs the name of its model")
