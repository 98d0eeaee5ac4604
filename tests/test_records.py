"""Dataclasses from JSON: what fits is taken, what does not is named with its place."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from jdd import records
from jdd.errors import UserError


class Point(NamedTuple):
    x: int
    y: float = 0.5


@dataclasses.dataclass(frozen=True)
class Drawing:
    name: str
    points: tuple[Point, ...]
    size: tuple[int, int]
    closed: bool = False
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scale: float | None = None
    rest: Any = None
    order: Sequence[int] = ()


GOOD = {"name": "a", "points": [{"x": 1, "y": 2}, [3], [4, 5.5]], "size": [6, 7], "scale": 8}


def test_lists_and_objects_become_what_the_annotations_say():
    made = records.build(Drawing, GOOD)
    assert made == Drawing("a", (Point(1, 2), Point(3), Point(4, 5.5)), (6, 7), scale=8)
    assert records.build(Drawing, dataclasses.asdict(made)) == made
    assert records.convert(Drawing, made, "it") is made


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": 3}, "'name' is 3, a text is needed"),
        ({"points": 3}, "'points' is 3, a list is needed"),
        ({"points": [[1], "x"]}, r"'points\[1\]' is 'x', fields are needed"),
        ({"points": [[1, 2, 3]]}, r"'points\[0\]' is \[1, 2, 3\], fields are needed"),
        ({"points": [{"y": 1}]}, r"'points\[0\].x' is missing"),
        ({"points": [{"x": 1, "z": 1}]}, r"'points\[0\].z' is not known"),
        ({"points": [[True]]}, "is True, a whole number is needed"),
        ({"points": [[1.0]]}, "is 1.0, a whole number is needed"),
        ({"size": [1]}, "'size' has 1 entries, 2 are needed"),
        ({"closed": 1}, "'closed' is 1, true or false is needed"),
        ({"words": {"a": []}}, r"'words.a' is \[\], a text is needed"),
        ({"words": []}, r"'words' is \[\], fields are needed"),
        ({"scale": "8"}, "'scale' is '8', a number is needed"),
        ({"colour": 1}, "'colour' is not known"),
        ({"name": ["x" * 99]}, r"'name' is \['x{58}…, a text"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, words):
    path = tmp_path / "drawing.json"
    path.write_text(json.dumps({**GOOD, **changes}))
    with pytest.raises(UserError, match=rf"drawing\.json is damaged: .*{words}") as caught:
        records.load(path, Drawing)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [3, [], None, "text"])
def test_what_has_no_fields_is_refused(value):
    with pytest.raises(UserError, match=r"there is damaged: .* where fields are needed"):
        records.parse(value, Drawing, "there")
