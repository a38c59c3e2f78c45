"""What installed packages add to every chat: entry points `webchat_widget.profiles` and
`webchat_widget.middlewares`.

A profile's entry point names a Profile, a list of them, or a function that gives either; that of a middleware
a subclass of Middleware. What is wrong with one is logged and concerns no other.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from typing import Any

from .middlewares.base import Middleware, Middlewares
from .middlewares.builtin import BUILTIN
from .profiles import DEFAULT, Profile, Profiles, profile_of

__all__ = ["checked_kind", "installed_middlewares", "installed_profiles"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def checked_kind(given: Any) -> type[Middleware]:
    """A kind of middleware that can be asked for by its name. Raises ValueError."""
    if not (isinstance(given, type) and issubclass(given, Middleware)):
        raise ValueError(f"{str(given)[:100]} is no subclass of webchat_widget.Middleware")
    if not _NAME.fullmatch(given.name):
        raise ValueError(
            f'the middleware {given.__name__} needs a name of letters, digits and "_", as in '
            '`name: ClassVar[str] = "my_name"`'
        )
    return given


def installed_middlewares(log: logging.Logger) -> Middlewares:
    """Those of other packages; none takes a name that is taken."""
    kinds: dict[str, type[Middleware]] = {}
    for point in metadata.entry_points(group="webchat_widget.middlewares"):
        try:
            kind = checked_kind(point.load())
            if kind.name in kinds or kind.name in {each.name for each in BUILTIN}:
                raise ValueError(f"there is a middleware {kind.name} already")
            kinds[kind.name] = kind
        except Exception as error:  # it is a stranger's code
            _leave_out(log, point, error)
    return Middlewares(kinds.values())


def installed_profiles(
    log: logging.Logger, middlewares: Middlewares, tools: Collection[str]
) -> tuple[Profile, ...]:
    """Those of other packages, checked; `middlewares` and `tools` are what they may name. The first of a slug
    counts, and none is the default one, which is the host's to say."""
    known = Profiles(middlewares=middlewares)
    found: dict[str, Profile] = {}
    for point in metadata.entry_points(group="webchat_widget.profiles"):
        try:
            several: dict[str, Profile] = {}
            for profile in _profiles(point.load()):
                if profile.slug == DEFAULT or profile.slug in found | several:
                    raise ValueError(f"there is a profile {profile.slug} already")
                known.check_host(profile, tools)
                several[profile.slug] = profile
            found |= several
        except Exception as error:
            _leave_out(log, point, error)
    return tuple(found.values())


def _profiles(given: Any) -> Iterator[Profile]:
    if callable(given):
        given = given()
    several = isinstance(given, Iterable) and not isinstance(given, str | dict)
    for each in given if several else [given]:
        yield profile_of(each)


def _leave_out(log: logging.Logger, point: metadata.EntryPoint, error: Exception) -> None:
    package = point.dist.name if point.dist is not None else "an unknown package"
    log.error(
        "webchat: the entry point %s = %s (%s, of %s) is left out: %s",
        point.name,
        point.value,
        point.group,
        package,
        str(error) or repr(error),
    )
