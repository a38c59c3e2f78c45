"""Whether a function is still the one that it was."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import pytest

from webchat_widget.notebook.version import version_of

BODY = "def f(a: str = 'x') -> str:\n    return a + '1' if a in {'a', 'b', 'c'} else (lambda: a)()"


def made(source: str, file: str = "one") -> Any:
    space: dict[str, Any] = {"functools": functools}
    exec(compile(source, file, "exec", dont_inherit=True), space)
    return space["f"]


def test_the_same_source_in_another_place() -> None:
    assert version_of(made(BODY)) == version_of(made(f"\n\n{BODY}", "two"))


@pytest.mark.parametrize(
    ("old", "new"), [("'1'", "'2'"), ("'x'", "'y'"), ("'c'", "'d'"), ("lambda: a", "lambda: a * 2")]
)
def test_another_body(old: str, new: str) -> None:
    assert version_of(made(BODY)) != version_of(made(BODY.replace(old, new)))


def test_in_another_process() -> None:
    """There, sets have another order, and objects live elsewhere."""
    body = BODY.replace("'x'", "object()")
    code = (
        f"space = {{}}\nexec({body!r}, space)\n"
        "from webchat_widget.notebook.version import version_of\nprint(version_of(space['f']))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == version_of(made(body))


def test_what_a_decorator_wraps() -> None:
    def wrapped(body: str) -> Any:
        inner = made(body)

        @functools.wraps(inner)
        def outer(*args: Any) -> Any:
            return inner(*args)

        return outer

    assert version_of(wrapped(BODY)) == version_of(wrapped(BODY))
    assert version_of(wrapped(BODY)) != version_of(wrapped(BODY.replace("'1'", "'2'")))


def test_what_is_not_written_in_python() -> None:
    assert version_of(len) == version_of(len) != version_of(print)
