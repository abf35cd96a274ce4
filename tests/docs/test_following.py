"""The one who follows the pages notices when a page is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Follow = Callable[..., None]


def page(*blocks: str) -> str:
    return "# Page\n\n" + "\n".join(blocks)


def console(text: str, terminal: str = "") -> str:
    return f"```console {terminal}\n{text}\n```\n"


def test_a_page_that_is_right_is_followed_to_its_end(follow: Follow) -> None:
    follow(
        page(
            "```python hello.py\nimport sys\nprint('hello', sys.argv[1:])\n```\n",
            console("$ python hello.py a 'b c'\nhello ['a', 'b c']\n$ pwd\n/…/folder"),
            "```{code-block} console\n:caption: Second\n\n$ false\n$ echo $?\n1\n```\n",
            console("$ date '+(%Y-%m-%d %H:%M:%S) now'\n(2026-11-21 08:30:00) now"),
            console("$ export WHERE=here; for i in 1 2 3; do echo $i; done\n…\n3\n$ echo $WHERE\nhere"),
        )
    )


def test_files_of_any_kind_are_written_for_those_that_use_them(follow: Follow) -> None:
    follow(
        page(
            "```python pages/first.py\nfrom pathlib import Path\nprint(Path('texts/hello.txt').read_text())\n```\n",
            "```python main.py\nimport pages.first\n```\n",
            "```{code-block} text\n:caption: texts/hello.txt\n\nhello\n```\n",
            console("$ python main.py\nhello\n"),
        )
    )


def test_a_command_goes_on_until_it_is_interrupted(follow: Follow) -> None:
    follow(
        page(
            "```python tick.py\nimport time\n"
            "try:\n    for n in range(10**6):\n        print(n, flush=True)\n"
            "        time.sleep(0.01 if n < 45 else 60)\n"
            "except KeyboardInterrupt:\n    print('bye')\n```\n",
            console("$ python tick.py\n0\n…", "first"),
            console("$ echo beside\nbeside", "second"),
            console("…\n40\n…", "first"),
            console("…\n^Cbye", "first"),
        )
    )


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (console("$ echo yes\nno"), "expected"),
        (console("$ echo one\n$ echo one; echo two\none"), "expected"),
        (console("$ echo yes\nyes\nyes"), "expected"),
        (console("$ echo 12 apples\n… pears"), "expected"),
        (console("$ date '+%Y-%m-%d %H:%M'\n2026-11-21 08:30:00"), "expected"),
        (console("$ false"), "failed"),
        (console("$ false\n$ echo on\non"), "failed"),
        (console("$ false\n$ echo $?\n2"), "expected"),
        (console("$ echo a; sleep 60\na\n…"), "leaves commands running"),
        (console("$ echo a\na\n…"), "has ended"),
        (console("$ echo a\na\n^C"), "(has ended|no command runs)"),
        ("```python\nprint()\n```\n", "cannot be run"),
        ("```json\n{}\n```\n", "cannot be run"),
        ("```\n$ true\n```\n", "cannot be run"),
        ("```python unused.py\nprint()\n```\n", "no command uses"),
        ("```html page.html\n<p>\n```\n" + console("$ true"), "no command uses"),
        ("```python a.py\nimport b\n```\n```python b.py\nimport a\n```\n" + console("$ true"), "no command uses"),
        ("- item\n\n  ```console\n  $ true\n  ```\n", "would not be run"),
        ("```console\n$ true\n", "would not be run"),
        ("No block at all.", "no such block"),
    ],
)
def test_what_a_page_gets_wrong_is_noticed(follow: Follow, blocks: str, said: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception), match=said):
        follow(page(blocks))
