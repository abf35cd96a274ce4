"""YAML files: values with the lines of their keys, and problems in place of tracebacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from openfactory.deploy.files.document import Document, plain_value, read_document


def read(tmp_path: Path, content: str | bytes, environ: dict[str, str] | None = None) -> Document:
    file = tmp_path / "app_x.yml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_document(file, environ or {})


def texts(document: Document) -> list[str]:
    return [str(problem).removeprefix(f"{document.file}") for problem in document.problems]


def test_values_have_the_lines_of_their_keys(tmp_path: Path) -> None:
    document = read(tmp_path, "# first\napps:\n\n  mill:\n    networks:\n      - a\n      - b\n    uuid:\n      mill\n")
    assert document.value == {"apps": {"mill": {"networks": ["a", "b"], "uuid": "mill"}}}
    lines = {
        ("apps",): 2,
        ("apps", "mill"): 4,
        ("apps", "mill", "networks"): 5,
        ("apps", "mill", "networks", 1): 7,
        ("apps", "mill", "uuid"): 8,
        ("apps", "mill", "image"): 4,  # not there: the line of the app
    }
    assert {path: document.place(path).line for path in lines} == lines


def test_scalars_keep_the_text_of_the_file(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "a: 8080\nb: 1.10\nc: 007\nd: yes\ne: 2026-11-30\nf: 10:30\ng: ~\nh: true\ni: 0.5\nj: '8080'\nk: !!str 1\nl:\n"
        "m: 0x50\nn: 1e3\no: .inf\np: 1_000\nq: -0\nr: !!int 3\n",
    )
    assert document.problems == []
    assert document.value == {
        "a": 8080, "b": "1.10", "c": "007", "d": "yes", "e": "2026-11-30", "f": "10:30", "g": None, "h": True, "i": 0.5,
        "j": "8080", "k": "1", "l": None, "m": "0x50", "n": "1e3", "o": ".inf", "p": "1_000", "q": "-0", "r": 3,
    }  # fmt: skip


def test_a_long_number_stays_text() -> None:
    assert plain_value("9" * 5_000) == "9" * 5_000


def test_aliases_and_merged_mappings_are_taken(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "x-base: &base {restart: always, image: a/b}\nx-more: &more {image: c/d, uuid: z}\n"
        "apps:\n  mill:\n    <<: [*base, *more]\n    uuid: mill\n  saw: *base\n",
    )
    assert document.problems == []
    assert document.value["apps"]["mill"] == {"restart": "always", "image": "a/b", "uuid": "mill"}
    assert document.value["apps"]["saw"] == {"restart": "always", "image": "a/b"}


PROBLEMS: dict[str, tuple[str | bytes, str]] = {
    "a doubled key": ("apps:\n  mill: 1\n  mill: 2\n", ":3: apps.mill: `mill` is there twice, first in line 2."),
    "a key that is doubled deep below": ("a:\n - b: 1\n   c: {d: 1, d: 2}\n", ":3: a[0].c.d: `d` is there twice"),
    "no YAML": ("apps:\n  mill: [1\nx: 2\n", ":3: This is not YAML: "),
    "a tab": ("apps:\n\tmill: 1\n", ":2: This is not YAML: while scanning"),
    "two documents": ("a: 1\n---\nb: 2\n", ":2: This is not YAML: expected a single document"),
    "an unknown alias": ("a: *b\n", ":1: This is not YAML: found undefined alias 'b'"),
    "a list as key": ("? [a]\n: 1\n", ":1: A key is a list or a mapping."),
    "a variable in a key": ("${NAME}: 1\n", ":1: ${NAME}: A key cannot have variables."),
    "a tag": ("a: !mine 1\n", ":1: a: The tag !mine has no meaning here."),
    "a tag of Python": ("a: !!python/name:os.system\n", ":1: a: The tag !!python/name:os.system has no meaning"),
    "a tag of a mapping": ("a: !!set {b}\n", ":1: a: The tag !!set has no meaning here."),
    "a merged scalar": ("a:\n  <<: 1\n", ":2: a: `<<` merges mappings only."),
    "a NUL": ('a: "\\0"\n', ":1: a: The text has the character '\\x00'"),
    "a surrogate": ('a: "\\ud800"\n', ":1: a: The text has the character '\\ud800'"),
    "a character that does not exist": ('a: "\\UFFFFFFFF"\n', ": The file is not YAML: "),
    "a control character": ("a: 1\nb: \x01\n", ":2: The file is not text, or not UTF-8."),
    "bytes": (b"a: 1\n\xff\xfe\x00\n", ":2: The file is not text, or not UTF-8."),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ":1: The file is not text, or not UTF-8."),
    "many levels": ("[" * 3_000 + "]" * 3_000, ": The values are nested too deeply."),
    "fifty levels": ("[" * 50 + "]" * 50, ":1: The file has more than 50,000 values or 40 levels"),
    "an alias that contains itself": ("a: &a\n  b: *a\n", ":1: The file has more than"),
    "a merge that contains itself": ("a: &a\n  <<: *a\n", ":2: The file has more than"),
    "a great file": ("#" * 2_000_000, ": The file has 2,000,000 bytes."),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_wrong_file_has_a_problem_with_its_line(tmp_path: Path, name: str) -> None:
    content, start = PROBLEMS[name]
    [text] = texts(read(tmp_path, content))
    assert text.startswith(start)
    assert text.endswith(".")


def test_aliases_of_aliases_are_bounded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    [text] = texts(read(tmp_path, "\n".join(lines)))
    assert "more than 50,000 values" in text


def test_a_chain_of_aliases_is_bounded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 5_000))]
    [text] = texts(read(tmp_path, "\n".join(lines)))
    assert "40 levels" in text


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    [absent] = read_document(tmp_path / "none.yml", {}).problems
    assert "cannot be read: No such file or directory" in str(absent)
    [folder] = read_document(tmp_path, {}).problems
    assert "not a regular file" in str(folder)


def test_a_file_of_windows_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "a: ü\r\nb: 1\r\n".encode("utf-16")).value == {"a": "ü", "b": 1}
    assert read(tmp_path, b"\xef\xbb\xbfa: 1\r\n").value == {"a": 1}


def test_variables_without_quotes_stand_in_lists_and_mappings_of_one_line(tmp_path: Path) -> None:
    content = 'a: [x, ${NET}, \'${NET}\']\nb: {c: ${NO:-a: b #c}, d: "${NO:-\\"\\u00fc\\"}"} # ${NO:?not read}\n'
    document = read(tmp_path, content, {"NET": "plant, line"})
    assert document.problems == []
    assert document.value == {"a": ["x", "plant, line", "plant, line"], "b": {"c": "a: b #c", "d": '"ü"'}}


def test_an_empty_file_has_no_value(tmp_path: Path) -> None:
    for content in ("", "# nothing\n", "---\n"):
        document = read(tmp_path, content)
        assert (document.value, document.problems) == (None, [])


def test_a_variable_that_is_required_is_named_with_its_line(tmp_path: Path) -> None:
    document = read(tmp_path, "a: 1\nb:\n  - x${TAG:?the version of the mill}\n")
    assert texts(document) == [":3: b[0]: The variable TAG is not set: the version of the mill. Set TAG."]


def test_a_variable_with_bytes_that_are_no_text_is_refused(tmp_path: Path) -> None:
    document = read(tmp_path, "a: ${X}\n", {"X": "\udcff"})
    [text] = texts(document)
    assert text.startswith(":1: a: The text has the character '\\udcff'")
