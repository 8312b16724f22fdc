"""`sluice policies`, `sluice explain` and `sluice evaluate-predictor`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from extproc.commands.main import main
from extproc.commands.policies import QuestionError, explanation, policies_table, read_request
from extproc.scheduling.state.claims import Level
from extproc.scheduling.status import Explanation, FlowState, PolicyState
from extproc.steps.explain import Explained, WrittenRequest
from tests.resources.manifests import PROVIDER, write

POLICIES = """\
apiVersion: sluice.dev/v1alpha1
kind: RateLimitingPolicy
metadata: {name: users}
spec:
  rateLimiter:
    bucketCapacity: 1000
    fillAmount: 10
    unit: tokens
    parameters: {limitByLabelKey: http.request.header.user}
---
apiVersion: sluice.dev/v1alpha1
kind: ConcurrencySchedulingPolicy
metadata: {name: slots}
spec:
  concurrencyScheduler:
    maxConcurrency: 2
    scheduler:
      workloads:
        - name: gold
          labelMatcher: {matchLabels: {tenant: acme}}
          parameters: {priority: 200}
---
apiVersion: sluice.dev/v1alpha1
kind: Gateway
metadata: {name: g}
spec:
  labels:
    tenant: {cel: 'labels["http.request.header.user"] == "alice" ? "acme" : "others"', value: others}
"""
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "manifests"
    place.mkdir()
    return write(place, policies=POLICIES, provider=PROVIDER)


def run(*arguments: str | Path, text: str = "") -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], input=text, env={"KEY": "sk-1"})


def test_a_request_that_would_pass(directory: Path) -> None:
    result = run("explain", "-", "-c", directory, "--header", "User=alice", text=json.dumps(CHAT))
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:3] == ["route acme/0", "target provider/acme", "model m1"]
    assert lines[3].endswith("in the prompt, 50 reserved for the answer")
    assert lines[4:6] == ["labels http.request.header.user = alice", "tenant = acme"]
    assert lines[7].startswith("RateLimitingPolicy/users pass costs ")
    assert lines[8].startswith("ConcurrencySchedulingPolicy/slots pass workload gold; priority 200; costs ")
    assert lines[9] == "It would pass at once."


def test_a_request_that_is_too_large_is_refused(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "request.http"
    body = json.dumps({**CHAT, "max_tokens": 5000, "messages": [{"role": "user", "content": "write a book " * 900}]})
    file.write_text(f"POST /v1/chat/completions HTTP/1.1\r\nHost: api.acme.example\r\nUser: bob\r\n\r\n{body}")
    result = run("explain", file, "-c", directory)
    assert result.exit_code == 1
    assert "tenant = others" in result.stdout
    assert "refuse        exceeds_quota" in result.stdout
    assert result.stdout.endswith("It would be refused by RateLimitingPolicy/users.\n")


def test_a_request_for_no_route_is_refused(directory: Path) -> None:
    result = run("explain", "-", "-c", directory, "--host", "elsewhere", text=json.dumps(CHAT))
    assert result.exit_code == 1
    assert "refused before any policy is asked: 404 route_not_found: No route for host 'elsewhere'." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (["explain", "-"], "hello", "begins neither with"),
        (["explain", "-"], '{"messages": ', "cannot be read"),
        (["explain", "-", "--admin", "http://127.0.0.1:9"], "{}", "http://127.0.0.1:9/explain: "),
        (["explain", "-", "--header", "novalue"], "{}", "a header is NAME=VALUE"),
        (["policies", "--admin", "http://127.0.0.1:9"], "", "http://127.0.0.1:9/policies: "),
        (["policies", "--admin", "nonsense"], "", "nonsense/policies: "),
    ],
)
def test_faults_are_told(arguments: list[str], text: str, said: str, directory: Path) -> None:
    more = ("-c", str(directory)) if arguments[0] == "explain" else ()
    result = run(*arguments, *more, text=text)
    assert result.exit_code == 2
    assert said in result.stderr


def test_bad_manifests_are_told_as_check_does(directory: Path) -> None:
    write(directory, bad=POLICIES.replace("fillAmount: 10", "fillAmount: 0"))
    result = run("explain", "-", "-c", directory, text=json.dumps(CHAT))
    assert result.exit_code == 2
    assert "fillAmount: 0 is out of range" in result.stderr


def test_ways_to_write_a_request() -> None:
    body = msgspec.Raw(b'{"messages": []}')
    assert read_request(b'{"messages": []}') == WrittenRequest(body=body)
    assert read_request(b'{"host": "h", "body": {"messages": []}}') == WrittenRequest(host="h", body=body)
    assert read_request(b"\xef\xbb\xbf\n{}") == WrittenRequest(body=msgspec.Raw(b"{}"))
    text = b'post http://h/v1/x?y=1\nX-A:  b:c \n\n{"messages": []}\n'
    assert read_request(text) == WrittenRequest(
        method="POST", path="/v1/x?y=1", host="h", headers={"x-a": "b:c"}, body=body
    )
    assert read_request(b"GET /v1/models") == WrittenRequest(method="GET", path="/v1/models")
    assert read_request(b"POST /x\n\nno json").body == msgspec.Raw(b'"no json"')


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_read_or_told(data: bytes) -> None:
    for each in (data, b"{" + data, b"POST /x\n" + data, b'{"body": ' + data + b"}"):
        try:
            asked = read_request(each)
        except QuestionError:
            continue
        msgspec.json.encode(asked)


def test_the_table_of_live_state() -> None:
    states = [
        PolicyState(
            name="LoadRampingPolicy/new", kind="ramp", percentage=12.5, step=0, command="auto", direction=1,
            counts={"passed": 3},
        ),
        PolicyState(name="RateLimitingPolicy/u", kind="rate", dry_run=True, levels=[Level("alice", 2.5, 10)]),
        PolicyState(
            name="QuotaSchedulingPolicy/q", kind="quota", waiting=3, levels=[Level("", 0, 9)],
            flows=[FlowState("gold", "acme", 200, 3, 90)],
        ),
        PolicyState(
            name="AverageLatencySchedulingPolicy/a", kind="adaptive", waiting=0, multiplier=0.5, overloaded=True,
            signal=2.0, setpoint=1.25,
        ),
        PolicyState(name="CachingPolicy/c", kind="cache", entries=2, bytes=900, joined=1, counts={"hits": 4}),
    ]  # fmt: skip
    assert [" ".join(line.split()) for line in policies_table(states)] == [
        "LoadRampingPolicy/new 12.5 % are let through, step 1, rises (auto); passed 3",
        "RateLimitingPolicy/u dry-run; no request yet",
        "alice: 2.5 of 10 left",
        "QuotaSchedulingPolicy/q 3 waiting",
        "(all): 0 of 9 left",
        "gold acme: 3 waiting with priority 200, costing 90",
        "AverageLatencySchedulingPolicy/a multiplier 0.5, overloaded, signal 2 of 1.25; 0 waiting",
        "CachingPolicy/c 2 answers, 900 bytes, 1 joined; hits 4",
    ]
    assert list(policies_table([])) == ["no traffic policies"]


WAITS = Explanation(policy="q", kind="quota", says="wait", seconds=4.0, position=3)


@pytest.mark.parametrize(
    ("policies", "conclusion"),
    [
        ([], "It would pass at once."),
        ([WAITS], "It would wait at q, for about 4.0 s."),
        ([WAITS, Explanation(policy="s", kind="slots", says="wait")], "It would wait at q and s, for about 4.0 s."),
        ([Explanation(policy="c", kind="cache", says="hit"), WAITS], "It would be answered from the cache."),
        ([Explanation(policy="r", kind="rate", says="refuse", dry_run=True)], "It would pass at once."),
        ([WAITS, Explanation(policy="r", kind="rate", says="refuse")], "It would be refused by r."),
    ],
)
def test_what_follows_from_what_the_policies_say(policies: list[Explanation], conclusion: str) -> None:
    assert list(explanation(Explained(policies=policies)))[-1] == conclusion


def test_the_predictor_is_judged_on_recorded_answers(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl.gz"
    rows = [{"prompt": f"question {number}", "tokens": 10 + number % 7} for number in range(40)]
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    result = run("evaluate-predictor", file)
    assert result.exit_code == 0
    assert result.stdout.startswith("rule ")
    assert {line.split()[0] for line in result.stdout.splitlines()[1:]} >= {"ours", "constant"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"prompt": "a", "tokens": 1}\n{"prompt": 1}', "line 2: "),
        (b'{"prompt": "a", "tokens": 1}', "too few"),
        (b"\x1f\x8bxx", ""),
        (b"", "too few"),
    ],
)
def test_recordings_that_cannot_be_used(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "pairs"
    file.write_bytes(data)
    result = run("evaluate-predictor", file)
    assert result.exit_code == 2
    assert f"sluice: {file}: " in result.stderr
    assert said in result.stderr
