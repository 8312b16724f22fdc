"""Drives the generators of the steps in tests: to the first wait, and on from it."""

from __future__ import annotations

from typing import TypeVar

from extproc.steps.wait import Wait, Waiting

Result = TypeVar("Result")


def first(course: Waiting[Result]) -> Wait | Result:
    """What it waits for, or its result."""
    try:
        return next(course)
    except StopIteration as end:
        result: Result = end.value
        return result


def at_once(course: Waiting[Result]) -> Result:
    """The result of what must not wait."""
    try:
        wait = next(course)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise AssertionError(f"it waits: {wait!r}")


async def worked(course: Waiting[Result]) -> Result:
    """The result, after all the work that it wants done."""
    while True:
        try:
            wait = next(course)
        except StopIteration as end:
            result: Result = end.value
            return result
        assert wait.work is not None, wait
        await wait.work()
