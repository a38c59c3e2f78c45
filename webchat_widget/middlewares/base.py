"""What a middleware promises, what it is told of its run, and middlewares by name."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, ClassVar, Protocol

import msgspec
from msgspec import Struct

from webchat_widget.errors import EngineError, NotAllowed, WebChatError
from webchat_widget.events import Said
from webchat_widget.tools.heard import Unheard, heard
from webchat_widget.turns import Turn
from webchat_widget.typing import JSONObject, Usage

__all__ = ["Ask", "Middleware", "Middlewares", "RunView", "Stream", "stack"]

_MAX = 32
"""Middlewares of one run: each is a step on the way of every word."""

Stream = AsyncGenerator[Said, None]
Ask = Callable[[Turn], Stream]
"""Asks what is inside of a middleware: the next one, in the end the model."""


class RunView(Protocol):
    """What a middleware sees of the run that it is part of."""

    @property
    def id(self) -> str:
        """The run's id; the ids of its rows begin with it."""
        ...

    @property
    def round(self) -> int:
        """Which request of the run this is, from 1: each round of tool calls is followed by another."""
        ...

    @property
    def engine(self) -> str:
        """The name of the engine that answers."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What all requests of the run have cost so far; None where the model's server does not say."""
        ...

    @property
    def log(self) -> logging.Logger:
        """The host's log."""
        ...

    def new_id(self, kind: str) -> str:
        """The id of one more row of the run, as in `<run>:plan:1`."""
        ...

    def last(self, kind: str, *, mine: bool = False) -> JSONObject | None:
        """The props of the newest row of a kind in the conversation (`mine`: in this run), its `id` with
        them. What a middleware remembers, it remembers there: rows survive a restart."""
        ...

    async def pause(self, phase: str, summary: str, seconds: float) -> None:
        """Show a pause, and wait until a person lets the run go on, at most so long, and at most a day."""
        ...


class Middleware(Struct, frozen=True, forbid_unknown_fields=True):
    """A subclass's fields are its configuration, with their types as its schema, `name` is how it is asked
    for, and its docstring says what it does.

    One that only changes what the model is sent overrides `prepare`; one that also looks at what comes back,
    or asks more than once, overrides `stream`. It is made once for each run, and holds nothing that changes:
    what it remembers is local to `stream`, or in a row.
    """

    name: ClassVar[str] = ""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it asks by their names: a host may not allow all."""
        return ()

    def prepare(self, turn: Turn, run: RunView) -> Turn:
        """The turn as it goes on from here."""
        return turn

    async def stream(self, turn: Turn, ask: Ask, run: RunView) -> Stream:
        """Answer one request of the run. It may be closed at any `yield`, and then ends what it began."""
        async with aclosing(ask(self.prepare(turn, run))) as said:
            async for each in said:
                yield each

    def spec(self) -> JSONObject:
        """How this one is asked for: `{name, config}`."""
        return {"name": self.name, "config": msgspec.to_builtins(self)}


class Middlewares:
    """The middlewares of a host, by name."""

    def __init__(self, kinds: Iterable[type[Middleware]] = ()) -> None:
        self._kinds = {kind.name: kind for kind in kinds}

    def __iter__(self) -> Iterator[type[Middleware]]:
        return iter(self._kinds.values())

    def __contains__(self, kind: object) -> bool:
        return kind in self._kinds.values()

    def over(self, others: Middlewares) -> Middlewares:
        """These, and those of `others` whose names are not taken."""
        return Middlewares((others._kinds | self._kinds).values())

    def make(self, specs: Sequence[Any], field: str = "middlewares") -> tuple[Middleware, ...]:
        """Middlewares from `name`s and `{name, config}`s, in their order.

        Raises NotAllowed, whose `field` begins with that given, for an unknown one, a config that does not
        fit, and too many.
        """
        if len(specs) > _MAX:
            raise NotAllowed(f"A run has at most {_MAX} middlewares; these are {len(specs):,}.", field=field)
        return tuple(self._make(spec, f"{field}[{at}]") for at, spec in enumerate(specs))

    def _make(self, spec: Any, field: str) -> Middleware:
        spec = {"name": spec} if isinstance(spec, str) else spec
        if not isinstance(spec, dict) or not spec.keys() <= {"name", "config"}:
            raise NotAllowed("A middleware is a name, or {name, config}.", field=field)
        name, config = spec.get("name"), spec.get("config")
        kind = self._kinds.get(name) if isinstance(name, str) else None
        if kind is None:
            known = ", ".join(sorted(self._kinds)) or "none"
            raise NotAllowed(
                f"There is no middleware {str(name)[:100]!r}. Middlewares: {known}.", field=f"{field}.name"
            )
        try:
            return msgspec.convert({} if config is None else config, kind)
        except msgspec.ValidationError as error:
            raise NotAllowed(
                f"The config of the middleware {name} does not fit: {error}.", field=f"{field}.config"
            ) from None


def stack(middlewares: Sequence[Middleware], ask: Ask, run: RunView) -> Ask:
    """Ask through the middlewares, the first of them outermost.

    A middleware is a stranger's code: what it raises, and what it says that nobody can take, becomes an
    EngineError with its name, and the log has the traceback. What `ask` raises passes through as it is.
    """
    faults: list[Exception] = []
    if middlewares:
        ask = _noting(ask, faults)
    for middleware in reversed(middlewares):
        ask = _around(middleware, ask, run, faults)
    return ask


def _noting(ask: Ask, faults: list[Exception]) -> Ask:
    """Ask, and note what is raised, which is then no middleware's fault."""

    async def stream(turn: Turn) -> Stream:
        try:
            async with aclosing(ask(turn)) as said:
                async for each in said:
                    yield each
        except Exception as error:
            faults.append(error)
            raise

    return stream


def _around(middleware: Middleware, ask: Ask, run: RunView, faults: list[Exception]) -> Ask:
    def inside(turn: Turn) -> Stream:
        if not isinstance(turn, Turn):
            what = f"asks with {type(turn).__name__}, and `prepare` must return a Turn."
            raise _failure(middleware, what, "middleware_failed")
        return ask(turn)

    def prepared(turn: Turn) -> Stream:
        with _named(middleware, run, faults):
            turn = middleware.prepare(turn, run)
        return inside(turn)

    async def stream(turn: Turn) -> Stream:
        with _named(middleware, run, faults):
            async with aclosing(middleware.stream(turn, inside, run)) as said:
                async for each in said:
                    try:
                        event = heard(each)
                    except Unheard as error:
                        raise _failure(middleware, str(error), "bad_event") from None
                    yield event

    # One that only prepares has no event pass through its hands.
    return prepared if type(middleware).stream is Middleware.stream else stream


@contextmanager
def _named(middleware: Middleware, run: RunView, faults: list[Exception]) -> Iterator[None]:
    """What a middleware raises here is told with its name."""
    try:
        yield
    except WebChatError:
        raise
    except Exception as error:
        if any(error is fault for fault in faults):
            raise
        run.log.exception("webchat: the middleware %s failed", _name(middleware))
        what = f"raised {type(error).__name__}; the log has the traceback."
        raise _failure(middleware, what, "middleware_failed") from None


def _failure(middleware: Middleware, what: str, code: str) -> EngineError:
    return EngineError(f"The middleware {_name(middleware)} {what}", code=code, retryable=False)


def _name(middleware: Middleware) -> str:
    return middleware.name or type(middleware).__name__
