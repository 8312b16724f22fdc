"""What sentences with names hold beside them: numbers, tables, objects, traces."""

import json
import random
from collections.abc import Callable


def _number(low: int, high: int) -> Callable[[random.Random], str]:
    return lambda rng: str(rng.randint(low, high))


def _table(rng: random.Random) -> str:
    heads = rng.sample(("id", "name", "city", "qty", "price", "date", "status", "score", "unit", "weight"), 4)
    lines = [",".join(heads)]
    lines += [",".join(str(rng.randint(1, 900)) for _ in heads) for _ in range(rng.randint(2, 6))]
    return "\n".join(lines)


def _json(rng: random.Random) -> str:
    keys = rng.sample(("id", "title", "tags", "count", "items", "user", "active", "total", "lang", "rules", "role"), 4)
    values: tuple[object, ...] = (1, True, None, "abc", [1, 2], {"a": 3}, 4.5, "ok")
    return json.dumps({key: rng.choice(values) for key in keys}, indent=rng.choice((None, 2)))


def _trace(rng: random.Random) -> str:
    module = rng.choice(("app", "views", "load", "train", "orders", "utils.io", "api.client", "worker"))
    error = rng.choice(
        (
            "KeyError: 'id'",
            "TypeError: 'NoneType' object is not subscriptable",
            "ValueError: could not convert string to float: 'n/a'",
            "FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'",
            "ModuleNotFoundError: No module named 'yaml'",
            "IndexError: list index out of range",
            "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xb4 in position 12",
            "RecursionError: maximum recursion depth exceeded",
            "requests.exceptions.ConnectionError: connection refused",
            "AttributeError: 'list' object has no attribute 'items'",
        )
    )
    where = f'  File "/srv/{module.replace(".", "/")}.py", line {rng.randint(3, 400)}, in '
    return f"Traceback (most recent call last):\n{where}{rng.choice(('main', 'run', 'get', 'parse'))}\n{error}"


MADE: dict[str, Callable[[random.Random], str]] = {
    "n": _number(2, 12),
    "nn": _number(13, 99),
    "nnn": _number(100, 990),
    "year": _number(1960, 2024),
    "day": _number(1, 28),
    "hour": _number(8, 19),
    "table": _table,
    "json": _json,
    "trace": _trace,
}
