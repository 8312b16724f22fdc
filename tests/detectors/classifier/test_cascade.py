"""Which windows go how far, and that nothing comes out on another window's row."""

from typing import Any

import numpy as np
import pytest

from detectors.classifier.cascade import BATCH, NOTHING, PARTS, Cascade

Arrays = dict[str, np.ndarray[Any, Any]]
CATEGORIES = 3
ONWARD = dict.fromkeys(PARTS, 0.5)


class Graph:
    """Hands its function's outputs on, and notes how many rows it was asked for."""

    def __init__(self, outputs: Any) -> None:
        self.outputs = outputs
        self.rows = 0

    def run(self, _: list[str], inputs: Arrays) -> list[np.ndarray[Any, Any]]:
        self.rows += len(next(iter(inputs.values())))
        found: list[np.ndarray[Any, Any]] = self.outputs(**inputs)
        return found


def first(ids: Any, mask: Any) -> list[Any]:
    """A window's scores are in the digits of its second token: 111 asks for everything."""
    digits = np.stack([ids[:, 1] // 100 % 10, ids[:, 1] // 10 % 10, ids[:, 1] % 10], axis=1)
    return [ids[..., None].astype(np.float32), digits.astype(np.float32)]


@pytest.fixture
def graphs() -> dict[str, Graph]:
    return {
        "first": Graph(first),
        "middle": Graph(lambda hidden, mask: [hidden]),
        "statements": Graph(lambda hidden, mask: [hidden[:, 1, [0] * CATEGORIES], hidden[..., [0, 0]]]),
        "names": Graph(lambda hidden, mask: [hidden]),
    }


def rows(*codes: int) -> list[Any]:
    return [np.asarray([0, code, *range(5, 5 + at % 3), 2], np.int64) for at, code in enumerate(codes)]


def test_every_window_goes_as_far_as_its_parts_ask(graphs: dict[str, Graph]) -> None:
    codes = [0, 1, 10, 100, 111, 0, 11, 1, 0, 100]
    seen = Cascade(graphs, ONWARD, CATEGORIES).run(rows(*codes))
    for code, row, each in zip(codes, rows(*codes), seen, strict=True):
        asked = code >= 10
        assert each.logits.tolist() == [code if asked else NOTHING] * CATEGORIES
        assert (each.where is not None) == asked
        assert (each.tags is not None) == (code % 10 == 1)
        for part in (each.where, each.tags):
            assert part is None or part[:, 0].tolist() == row[1:-1].tolist()
    assert [graphs[name].rows for name in ("first", "middle", "statements", "names")] == [10, 7, 5, 4]


def test_harmless_windows_cost_the_first_graph_alone(graphs: dict[str, Graph]) -> None:
    Cascade(graphs, ONWARD, CATEGORIES).run(rows(*[0] * (2 * BATCH + 1)))
    assert [graphs[name].rows for name in ("first", "middle")] == [2 * BATCH + 1, 0]


def test_a_first_look_gives_the_scores(graphs: dict[str, Graph]) -> None:
    found = Cascade(graphs, ONWARD, CATEGORIES).look(rows(1, 10, 100, 0, 111))
    assert found.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]]
