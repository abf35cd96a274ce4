"""Steps in an open file that Hypothesis makes up: a storage answers each as the builtin `open` does."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.storage import FileBackend, LocalBackend
from openfactory.storage.remote import RemoteBackend

Step = tuple[str, *tuple[Any, ...]]

WHERE = st.tuples(st.just("seek"), st.integers(-3, 12), st.sampled_from([0, 1, 2]))
READ = st.one_of(
    WHERE,
    st.tuples(st.just("read"), st.integers(-1, 6)),
    st.tuples(st.just("readline")),
    st.tuples(st.just("readinto"), st.builds(bytearray, st.integers(0, 6))),
    st.tuples(st.just("tell")),
)
WRITE = st.one_of(
    WHERE,
    st.tuples(st.just("write"), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("truncate"), st.integers(0, 12)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("tell")),
)
APPEND = WRITE.filter(lambda step: step[0] != "truncate")


def taken(file: IO[bytes], steps: list[Step]) -> list[object]:
    answers: list[object] = []
    with file:
        for name, *arguments in steps:
            try:
                answers.append((getattr(file, name)(*arguments), file.tell(), *arguments))
            except io.UnsupportedOperation:
                answers.append("unsupported")
            except OSError as error:
                answers.append(error.errno)
    return answers


def compare(storage: FileBackend, folder: Path, mode: str, content: bytes, steps: list[Step]) -> None:
    here = folder / "here"
    here.write_bytes(content)
    storage.write_bytes("there", content)
    assert taken(storage.open("there", mode), steps) == taken(here.open(mode), steps)
    assert storage.read_bytes("there") == here.read_bytes()


@pytest.mark.parametrize("kind", ["local", "memory"])
@pytest.mark.parametrize(("mode", "steps"), [("rb", READ), ("wb", WRITE), ("ab", APPEND)])
@given(data=st.data(), content=st.binary(max_size=10))
def test_each_step_is_that_of_the_builtin_open(
    kind: str, mode: str, steps: st.SearchStrategy[Step], data: st.DataObject, content: bytes
) -> None:
    steps_taken = data.draw(st.lists(steps, min_size=4, max_size=12))
    with TemporaryDirectory() as folder:
        storage: FileBackend = RemoteBackend.from_config({"type": "fsspec", "url": f"memory://{uuid4().hex}"})
        if kind == "local":
            (Path(folder) / "store").mkdir()
            storage = LocalBackend.from_config(
                {"type": "local", "local_path": f"{folder}/store", "mount_point": "/nowhere/data"}
            )
        compare(storage, Path(folder), mode, content, steps_taken)


def test_a_file_that_was_made_long_is_written_where_its_position_is() -> None:
    """Its content is sent from the beginning to the end, so only after the end was written."""
    storage = RemoteBackend.from_config({"type": "fsspec", "url": f"memory://{uuid4().hex}"})
    size = 17 * 1024 * 1024
    with storage.open("long", "wb") as file:
        file.truncate(size)
        for part in (b"A" * 8192, b"B" * 10):
            file.write(part)
            file.flush()
        file.seek(0, io.SEEK_END)
        file.write(b"C")
        file.flush()
        with pytest.raises(io.UnsupportedOperation, match="on its way to the server"):
            file.seek(0)
    content = storage.read_bytes("long")
    assert content.strip(b"\0") == b"A" * 8192 + b"B" * 10 + bytes(size - 8202) + b"C"
