"""Prints of tools go to their calls, prints of others where they went."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
from contextvars import copy_context

import pytest

from webchat_widget.tools.capture import captured


def test_within_it_is_caught_and_around_it_not(capsys: pytest.CaptureFixture[str]) -> None:
    caught: list[str] = []
    print("before")
    with captured(caught.append):
        print("within", end="")
        sys.stdout.writelines(["a", "b"])
        sys.stdout.flush()
        print("fault", file=sys.stderr)
    print("after")
    assert "".join(caught) == "withinab"
    assert capsys.readouterr() == ("before\nafter\n", "fault\n")


def test_stdout_is_put_back_when_the_last_ends() -> None:
    outside = sys.stdout
    calls = [(copy_context(), captured(lambda text: None)) for _ in range(2)]
    for context, call in calls:
        context.run(call.__enter__)
    for context, call in calls:
        assert sys.stdout is not outside
        context.run(call.__exit__, None, None, None)
    assert sys.stdout is outside
    with contextlib.suppress(ValueError), captured(lambda text: None):
        raise ValueError
    assert sys.stdout is outside


def test_each_thread_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    texts: dict[int, list[str]] = {n: [] for n in range(8)}
    together = threading.Barrier(9)

    def work(n: int) -> None:
        with captured(texts[n].append):
            together.wait(10)
            for _ in range(100):
                print(n)
            together.wait(10)

    threads = [threading.Thread(target=work, args=(n,)) for n in texts]
    for thread in threads:
        thread.start()
    together.wait(10)
    for _ in range(100):
        print("mine")
    together.wait(10)
    for thread in threads:
        thread.join()
    assert {n: "".join(text) for n, text in texts.items()} == {n: f"{n}\n" * 100 for n in texts}
    assert capsys.readouterr().out == "mine\n" * 100


async def test_each_task_has_its_own() -> None:
    async def work(n: int) -> str:
        texts: list[str] = []
        with captured(texts.append):
            for _ in range(3):
                print(n, end="")
                await asyncio.sleep(0)
        return "".join(texts)

    assert await asyncio.gather(*map(work, range(3))) == ["000", "111", "222"]


def test_a_tool_that_redirects_by_itself_gets_what_it_asked_for() -> None:
    caught: list[str] = []
    mine = io.StringIO()
    outside = sys.stdout
    with captured(caught.append):
        with contextlib.redirect_stdout(mine):
            print("mine")
        print("theirs")
    assert (mine.getvalue(), "".join(caught)) == ("mine\n", "theirs\n")
    assert sys.stdout is outside


def test_another_stdout_does_not_stay_on_the_main_thread() -> None:
    outside = sys.stdout
    try:
        with captured(lambda text: None):
            sys.stdout = io.StringIO()
        assert sys.stdout is outside
    finally:
        sys.stdout = outside


def test_who_puts_another_stdout_there_for_good_elsewhere_keeps_it() -> None:
    outside, other = sys.stdout, io.StringIO()

    def work() -> None:
        with captured(lambda text: None):
            sys.stdout = other

    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert sys.stdout is other
    finally:
        sys.stdout = outside
