"""Addresses and look-ups, with a resolver that the test plays."""

from __future__ import annotations

import asyncio
import logging
import socket
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.pool.engines.dns import (
    AddressSource,
    Members,
    Membership,
    is_literal,
    join_address,
    split_address,
    system_lookup,
)


class Resolver:
    """Answers from a table. `None` in the table: the name does not exist."""

    def __init__(self, **answers: list[str] | None) -> None:
        self.answers = dict(answers)
        self.asked = 0
        self._condition = asyncio.Condition()

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        async with self._condition:
            self._condition.notify_all()
        answer = self.answers[host]
        if answer is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answer

    async def again(self, times: int = 2) -> None:
        """Returns when it has been asked that often; all answers before the last have been taken in."""
        goal = self.asked + times
        async with self._condition:
            await self._condition.wait_for(lambda: self.asked >= goal)


class Told:
    def __init__(self) -> None:
        self.members: list[Members] = []

    def __call__(self, members: Members) -> None:
        self.members.append(members)

    @property
    def last(self) -> list[str]:
        return list(self.members[-1])


def membership(told: Told, resolver: Resolver, *addresses: str) -> Membership:
    sources = [AddressSource(address=address, labels={"of": address}) for address in addresses]
    return Membership(sources, told, interval=0.001, random=Random(0), lookup=resolver)


async def test_literals_and_names_become_members_with_their_labels() -> None:
    told = Told()
    resolver = Resolver(engines=["10.0.0.2", "10.0.0.1", "10.0.0.2", "2001:db8::1", "fe80::1%eth0", "nonsense"])
    live = membership(told, resolver, "10.0.0.1:80", "engines:80", "[::1]:80")
    await live.start()
    assert told.members[-1] == {
        "10.0.0.1:80": {"of": "10.0.0.1:80"},
        "10.0.0.2:80": {"of": "engines:80"},
        "[2001:db8::1]:80": {"of": "engines:80"},
        "[::1]:80": {"of": "[::1]:80"},
    }
    await live.stop()


async def test_answers_are_followed_and_the_last_good_one_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    told, resolver = Told(), Resolver(engines=["10.0.0.1"])
    live = membership(told, resolver, "engines:80")
    with caplog.at_level(logging.INFO):
        await live.start()
        resolver.answers["engines"] = ["10.0.0.3", "10.0.0.2"]
        await resolver.again()
        assert told.last == ["10.0.0.2:80", "10.0.0.3:80"]
        failures: list[list[str] | None] = [None, []]
        for failure in failures:
            resolver.answers["engines"] = failure
            await resolver.again(4)
            assert told.last == ["10.0.0.2:80", "10.0.0.3:80"]
        resolver.answers["engines"] = ["10.0.0.9"]
        await resolver.again()
        assert told.last == ["10.0.0.9:80"]
        await live.stop()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"], "told once, not per look-up"
    assert "keeping 2 known addresses" in caplog.text
    assert len(told.members) == 4, "members are told when they change"


async def test_a_name_that_never_resolved_leaves_the_others_alone() -> None:
    told, resolver = Told(), Resolver(engines=None)
    live = membership(told, resolver, "engines:80", "10.0.0.1:80")
    await live.start()
    assert told.last == ["10.0.0.1:80"]
    resolver.answers["engines"] = ["10.0.0.2"]
    await resolver.again()
    assert told.last == ["10.0.0.2:80", "10.0.0.1:80"]
    await live.stop()


async def test_reconfiguring_keeps_answers_of_names_that_stay() -> None:
    told, resolver = Told(), Resolver(one=["10.0.0.1"], two=["10.0.0.2"], three=["10.0.0.3"])
    live = membership(told, resolver, "one:80", "two:80")
    await live.start()
    resolver.answers["one"] = None
    live.configure([AddressSource(address="one:80"), AddressSource(address="three:80")])
    assert told.last == ["10.0.0.1:80"]
    await resolver.again(4)
    assert told.last == ["10.0.0.1:80", "10.0.0.3:80"]
    with pytest.raises(ValueError, match="HOST:PORT"):
        live.configure([AddressSource(address="broken")])
    assert told.last == ["10.0.0.1:80", "10.0.0.3:80"]
    await live.stop()


async def test_the_system_resolver() -> None:
    assert "127.0.0.1" in await system_lookup("127.0.0.1", 80)
    live = Membership([AddressSource(address="a" * 64 + ":80")], told := Told(), interval=1.0, random=Random(0))
    await live.start()
    assert told.last == [], "a label too long for DNS is a failed look-up"
    await live.stop()


@pytest.mark.parametrize(
    ("address", "parts"),
    [("10.0.0.1:80", ("10.0.0.1", 80)), ("[::1]:65535", ("::1", 65535)), ("a.b.svc:8000", ("a.b.svc", 8000))],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
    assert join_address(*parts) == address


@pytest.mark.parametrize(
    "address",
    ["", "host", ":80", "host:", "host:0", "host:65536", "host:+80", "host:８０", "::1:80", "[::1]", "[zz]:80", "h:1x"],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_address(address)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError:
        return
    assert host
    assert 1 <= port <= 65535
    if is_literal(host):
        assert split_address(join_address(host, port)) == (host, port)
