from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openfactory.storage import PathOutsideStorageError
from openfactory.storage.paths import relative

ROOT = PurePosixPath("/srv/data")

NAMES = st.text(st.characters(blacklist_characters="/\\\0", codec="utf-8"), min_size=1).filter(
    lambda name: name not in (".", "..")
)
SEGMENTS = st.lists(st.one_of(NAMES, st.sampled_from(["..", ".", "", "a", "b"])), max_size=10)


def depths(segments: list[str]) -> list[int]:
    """How deep below its start each step of a path is."""
    depth, found = 0, [0]
    for segment in segments:
        depth += {"..": -1, ".": 0, "": 0}.get(segment, 1)
        found.append(depth)
    return found


@given(SEGMENTS)
def test_a_relative_path_is_refused_exactly_when_a_step_of_it_is_above_the_root(segments: list[str]) -> None:
    path = "/".join(segments)
    assume(not path.startswith("/"))
    if min(depths(segments)) < 0:
        with pytest.raises(PathOutsideStorageError) as caught:
            relative(path)
        assert caught.value.path == path
    else:
        found = relative(path)
        assert found.count("/") + bool(found) == depths(segments)[-1]
        assert not set(found.split("/")) & {".", ".."}
        assert relative(found) == found


@given(st.lists(NAMES, max_size=5))
def test_what_is_inside_is_reached_under_each_of_its_names(names: list[str]) -> None:
    plain = "/".join(names)
    assert relative(plain) == plain
    assert relative(PurePosixPath(plain)) == plain
    assert relative(ROOT / plain, [ROOT]) == plain
    assert relative("./" + "//".join(names) + "/.") == plain
    assert relative("".join(f"{name}/x/../" for name in names)) == plain
    assert relative(f"/srv/other/../../srv/data/{plain}", [ROOT]) == plain
    assert relative(f"{ROOT}/x/../../data/{plain}", [PurePosixPath("/elsewhere"), ROOT]) == plain


@given(SEGMENTS)
def test_an_absolute_path_is_taken_exactly_when_it_is_inside_a_root(segments: list[str]) -> None:
    real: list[str] = []
    for segment in segments:
        if segment == "..":
            del real[-1:]  # there is nothing above /
        elif segment not in ("", "."):
            real.append(segment)
    root = PurePosixPath("/a")
    path = "/" + "/".join(segments)
    if real[:1] == ["a"]:
        assert relative(path, [root]) == "/".join(real[1:])
    else:
        with pytest.raises(PathOutsideStorageError, match="absolute path outside of the storage"):
            relative(path, [root])


@given(st.text(), st.sampled_from("\0\\"), st.text())
def test_no_path_holds_what_another_system_takes_for_its_end_or_for_a_way_out(a: str, b: str, c: str) -> None:
    with pytest.raises(PathOutsideStorageError, match=r"contains a (NUL character|backslash)\."):
        relative(a + b + c)


@pytest.mark.parametrize("path", ["/srv/database/a", "/srv", "/", "//srv/dat", "/srv/data/../x", "/etc/passwd"])
def test_a_name_that_begins_like_the_root_is_not_in_it(path: str) -> None:
    with pytest.raises(PathOutsideStorageError, match="or an absolute path inside '/srv/data'"):
        relative(path, [ROOT])


def test_without_a_root_no_path_is_absolute() -> None:
    with pytest.raises(PathOutsideStorageError, match=r"Use a path relative to it\.$"):
        relative("/a")
