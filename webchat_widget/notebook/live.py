"""A run in the output of a cell: live while it goes on, and static text when it has ended.

The view is an output by itself, which is emptied at the end, and the answer is another. So a saved notebook
has the text and no dead widget; and nbval, which neither compares views nor knows of updates, finds the
answer where it stands.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType

from IPython.display import DisplayHandle, display

from webchat_widget.errors import WebChatError
from webchat_widget.timeline.transcript import defused, line
from webchat_widget.typing import Entity, JSONObject

from .chat import Run
from .views import RunView
from .widget import ChatWidget

__all__ = ["answer", "show"]

_DEAF_SECONDS = 2.0
"""A page that shows the view, and that this kernel hears while a cell runs, has spoken by then."""
_STOP_SECONDS = 5.0

_ADVICE = (
    "The chat waits for your word: answer above, or from Python with chat.approve(), chat.deny() or "
    "chat.resume(). What it says then comes here; %chat stop ends it."
)


def show(chat: ChatWidget, send: Callable[[], Run], *, wait: bool = True) -> None:
    """Send a prompt, and show its run in the output of the cell that runs now, until the run has ended.

    Without `wait` it goes on by itself, and its answer takes the place of the view; so too where it asks a
    person whom this kernel does not hear before the end of the cell. A KeyboardInterrupt stops the run, and
    goes on when the text so far is shown; one that comes while the prompt is sent waits until it is known
    which run to stop, and a second one does not. Raises what `send` and `run.wait()` raise.
    """
    run: Run | None = None
    live: _Live | None = None
    try:
        with _interrupts_later():
            run = send()
        live = _Live(chat, run)
        live.begin()
        if wait and live.follow():
            live.end()
        else:
            live.leave()
    except KeyboardInterrupt:
        if run is not None:
            with contextlib.suppress(WebChatError, TimeoutError):
                run.stop()
                run.wait(_STOP_SECONDS)
        if live is not None:
            live.end()
        elif run is not None:
            display(answer(run.rows), raw=True)
        raise
    except WebChatError:
        if live is not None:
            live.end()
        raise


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Raise the first KeyboardInterrupt of what is done here at its end, where there are signals."""
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield
        return
    interrupted = False

    def hear(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            former(signum, frame)
        interrupted = True

    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if interrupted:
        former(signal.SIGINT, None)


class _Live:
    """The output of one run."""

    def __init__(self, chat: ChatWidget, run: Run) -> None:
        self._run = run
        self._in_kernel = chat.where == "kernel"
        self._view = RunView(chat, run.run_id)
        self._handle = DisplayHandle()
        self._told = ""
        self._began = time.monotonic()

    def begin(self) -> None:
        """Show the view."""
        bundle, metadata = self._bundle
        self._handle.display(bundle, metadata=metadata, raw=True)

    def follow(self) -> bool:
        """Wait for the end; False where that would be a wait for a person whom this kernel does not hear."""
        for _ in self._run.follow():
            if self._deaf and any(map(_asks, self._run.rows)):
                print(_ADVICE)
                return False
            self._tell()
        return True

    def leave(self) -> None:
        """Let the cell end, and the answer come when it comes."""
        if self._told:
            bundle, metadata = self._bundle
            self._handle.update(bundle, metadata=metadata, raw=True)
        threading.Thread(target=self._outlive, name="webchat-answer", daemon=True).start()

    def end(self) -> None:
        """Leave the answer, or what there is of it, as static text."""
        self._handle.update({}, raw=True)
        display(answer(self._run.rows), raw=True)
        self._view.close()

    @property
    def _bundle(self) -> tuple[JSONObject, JSONObject]:
        bundle = self._view._repr_mimebundle_()
        assert bundle is not None, "it has a view"
        bundle[0].pop("text/plain", None)  # where there are no widgets, there is the answer only
        return bundle

    @property
    def _deaf(self) -> bool:
        """Whether this kernel hears nobody who looks at the view before the cell has ended."""
        late = time.monotonic() - self._began > _DEAF_SECONDS
        return self._in_kernel and late and not self._view.heard

    def _tell(self) -> None:
        """Show the text in place of a view that can't show it."""
        if self._deaf and (text := _text(self._run.rows)) != self._told:
            self._told = text
            self._handle.update({"text/markdown": defused(text)}, raw=True)

    def _outlive(self) -> None:
        with contextlib.suppress(WebChatError):
            self._run.wait()
        self._handle.update(answer(self._run.rows), raw=True)
        self._view.close()


def answer(rows: Sequence[Entity]) -> JSONObject:
    """What a run has said, and how it ended where that was not well; as a MIME bundle."""
    text, note, error = _text(rows), _note(rows), _error(rows)
    markdown = (defused(text), note and f"*({note})*", error and f"**Error** {line(error)}")
    plain = (text, note and f"({note})", error and f"Error: {error}")
    return {
        "text/markdown": "\n\n".join(filter(None, markdown)),
        "text/plain": "\n".join(filter(None, plain)),
    }


def _text(rows: Iterable[Entity]) -> str:
    """The last text of the assistant."""
    texts = [str(row["props"]["content"]) for row in rows if _is_answer(row)]
    return texts[-1] if texts else ""


def _note(rows: Sequence[Entity]) -> str:
    """A word for an end that is neither a good one nor an error."""
    if _error(rows):
        return ""
    said = [row["props"]["status"] for row in rows if _is_answer(row)]
    ended = [row["props"]["status"] for row in rows if row["kind"] == "run"]
    if "stopped" in ended:
        return "stopped"
    if said:
        return "" if said[-1] in ("complete", "streaming") else str(said[-1])
    return "no answer" if "finished" in ended else ""


def _error(rows: Iterable[Entity]) -> str:
    """Why it failed, as a sentence."""
    errors = [row["props"] for row in rows if row["kind"] == "error"]
    return next((str(props["message"]) for props in errors if props["code"] != "stopped"), "")


def _is_answer(row: Entity) -> bool:
    return row["kind"] == "message" and row["props"].get("role") == "assistant"


def _asks(row: Entity) -> bool:
    props = row["props"]
    paused = row["kind"] == "debugger_pause" and props.get("status") == "paused"
    return paused or (props.get("approval") or {}).get("state") == "pending"
