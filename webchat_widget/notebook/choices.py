"""What a person says in Python about profiles, middlewares and tools, as a host is told it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import structs

from webchat_widget.errors import BadRequest
from webchat_widget.middlewares.base import Middleware, Middlewares
from webchat_widget.plugins import checked_kind
from webchat_widget.profiles import Profile, profile_of
from webchat_widget.requests import parse_settings
from webchat_widget.tools.decorator import options_of
from webchat_widget.typing import JSONObject

__all__ = ["choices", "kinds_of", "listed_middlewares", "own_profiles"]


def choices(
    *,
    model: str | None = None,
    system_prompt: str | None = None,
    tools: Iterable[str | Callable[..., Any]] | None = None,
    middlewares: Iterable[str | JSONObject | Middleware] | None = None,
) -> JSONObject:
    """The overrides that were given, checked as far as they can be without a host.

    Raises TypeError for what is no list, ValueError for a config that is no JSON, and BadRequest.
    """
    given: JSONObject = {"model": model, "system_prompt": system_prompt}
    if tools is not None:
        given["tools"] = [
            _tool_name(tool) for tool in _listed("tools", tools, "functions, or of their names")
        ]
    if middlewares is not None:
        given["middlewares"] = [_spec(each) for each in listed_middlewares(middlewares)]
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        parse_settings(msgspec.json.encode(chosen))
    except UnicodeEncodeError:
        raise BadRequest("The text holds a lone surrogate, which is no character.", code="bad_json") from None
    return chosen


def own_profiles(given: Iterable[Profile | JSONObject]) -> tuple[tuple[Profile, ...], Middlewares]:
    """Profiles of one conversation, checked, and the kinds of the middlewares that they hold as objects.

    Raises TypeError and ValueError.
    """
    listed = _listed("profiles", given, "Profile objects")
    held = [structs.asdict(each) if isinstance(each, Profile) else each for each in listed]
    profiles = tuple(map(profile_of, listed))
    return profiles, kinds_of([each for profile in held for each in profile.get("middlewares") or ()])


def kinds_of(middlewares: Iterable[Any]) -> Middlewares:
    """The kinds of the objects among these. Raises ValueError for a kind without a name."""
    return Middlewares(checked_kind(type(each)) for each in middlewares if isinstance(each, Middleware))


def listed_middlewares(given: Any) -> list[Any]:
    """Middlewares as a person gives them. Raises TypeError for what is no list, and for a class."""
    listed = _listed("middlewares", given, "names, of {name, config}, or of Middleware objects")
    for each in listed:
        if isinstance(each, type):
            raise TypeError(
                f"middlewares= needs objects, and {each.__name__} is a class: write {each.__name__}(…)."
            )
    return listed


def _spec(given: Any) -> Any:
    if not isinstance(given, Middleware):
        return given
    try:
        return given.spec()
    except TypeError as error:
        raise ValueError(f"The config of the middleware {given.name} is no JSON: {error}") from None


def _tool_name(given: Any) -> str:
    if callable(given):
        return options_of(given).name or str(getattr(given, "__name__", given))
    return str(given)


def _listed(name: str, given: Any, what: str) -> list[Any]:
    if isinstance(given, str | dict) or not isinstance(given, Iterable):
        raise TypeError(f"{name}= takes a list of {what}.")
    return list(given)
