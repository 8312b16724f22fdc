from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extproc.resources.watch import affected, changes


async def armed(paths: list[Path], stop: asyncio.Event) -> AsyncIterator[set[Path]]:
    """The iterator once it watches."""
    found = changes(paths, stop=stop)
    assert await anext(found) == set()
    return found


async def seen(found: AsyncIterator[set[Path]], path: Path) -> None:
    async for touched in found:
        if path in touched:
            return
    raise AssertionError("ended without the change")


async def test_a_file_that_is_written_replaced_removed_and_made_again(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("one")
    found = await armed([key], asyncio.Event())
    key.write_text("two")
    await seen(found, key)
    (tmp_path / "new").write_text("three")
    (tmp_path / "new").rename(key)
    await seen(found, key)
    key.unlink()
    await seen(found, key)
    key.write_text("four")
    await seen(found, key)
    await found.aclose()  # type: ignore[attr-defined]


async def test_the_link_that_kubernetes_swaps(tmp_path: Path) -> None:
    for version in ("..1", "..2", "..3"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(version)
    (tmp_path / "..data").symlink_to("..1")
    key = tmp_path / "key"
    key.symlink_to("..data/key")
    found = await armed([key], asyncio.Event())
    for version in ("..2", "..3"):
        (tmp_path / "..data_tmp").symlink_to(version)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await seen(found, key)
        assert key.read_text() == version
    await found.aclose()  # type: ignore[attr-defined]


async def test_a_directory_stands_for_its_manifests(tmp_path: Path) -> None:
    found = await armed([tmp_path], asyncio.Event())
    (tmp_path / "a.yaml").write_text("a: 1")
    await seen(found, tmp_path)
    await found.aclose()  # type: ignore[attr-defined]


async def test_the_target_of_a_link_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "vault" / "key").write_text("one")
    key = tmp_path / "config" / "key"
    key.symlink_to("../vault/key")
    found = await armed([key], asyncio.Event())
    (tmp_path / "vault" / "key").write_text("two")
    await seen(found, key)
    await found.aclose()  # type: ignore[attr-defined]


async def test_stop_ends_it(tmp_path: Path) -> None:
    stop = asyncio.Event()
    found = await armed([tmp_path], stop)
    stop.set()
    with pytest.raises(StopAsyncIteration):
        await anext(found)


async def test_a_cancelled_watcher_leaves_the_stop_event_alone(tmp_path: Path) -> None:
    stop = asyncio.Event()
    found = await armed([tmp_path], stop)
    waiting = asyncio.ensure_future(anext(found))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not stop.is_set()


async def test_nothing_to_watch(tmp_path: Path) -> None:
    assert [each async for each in changes([tmp_path / "none" / "key"], stop=asyncio.Event())] == [set()]


def test_which_paths_an_event_concerns(tmp_path: Path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    assert affected([key, other], {tmp_path / "key"}) == {key}
    assert affected([key, other], {tmp_path / "..data"}) == {key, other}
    assert affected([key, tmp_path], {tmp_path / "a.yaml"}) == {tmp_path}
    assert affected([key, tmp_path], {tmp_path / ".a.yaml.swp", tmp_path / "notes"}) == set()
    assert affected([key], {tmp_path.parent / "key"}) == set()
