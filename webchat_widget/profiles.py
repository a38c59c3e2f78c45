"""Profiles: what a run begins with, and what its caller may choose otherwise."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from .errors import NotAllowed, NotFound
from .middlewares.base import Middleware, Middlewares
from .middlewares.builtin import BUILTIN
from .requests import Overrides
from .typing import JSONObject

__all__ = ["DEFAULT", "Chosen", "Profile", "Profiles"]

DEFAULT = "default"
"""The slug of the profile that there always is."""


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named configuration.

    `model` is None for the host's own. `tools` are names of the host's tools; those that a notebook brings a
    run has anyway. `middlewares` are names or `{name, config}`, the first outermost. `allow_overrides` are
    the names of what a caller may choose otherwise (`system_prompt`, `model`, `tools`, `middlewares`), True
    for all of them.
    """

    slug: str
    display_name: str = ""
    system_prompt: str = ""
    model: str | None = None
    tools: tuple[str, ...] = ()
    middlewares: tuple[str | JSONObject, ...] = ()
    allow_overrides: bool | tuple[str, ...] = True

    def allows(self, name: str) -> bool:
        """Whether a caller may choose `name` otherwise."""
        allowed = self.allow_overrides
        return allowed if isinstance(allowed, bool) else name in allowed

    def described(self) -> JSONObject:
        """What a page shows of it."""
        return {"slug": self.slug, "display_name": self.display_name or self.slug}


class Chosen(Struct, frozen=True):
    """What a run works with. `tools` is None where it has all: the profile's, and the conversation's own."""

    profile: Profile
    system_prompt: str
    model: str | None
    tools: tuple[str, ...] | None
    middlewares: tuple[Middleware, ...]


class Profiles:
    """The profiles of a host, by slug. `models` are patterns (`gpt-*`, `*`) of those that a caller may ask
    for."""

    def __init__(
        self, *profiles: Profile, models: Iterable[str] = ("*",), middlewares: Middlewares = BUILTIN
    ) -> None:
        self._by_slug = {profile.slug: profile for profile in (Profile(slug=DEFAULT), *profiles)}
        self._models = tuple(models)
        self._middlewares = middlewares

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._by_slug.values())

    def __contains__(self, slug: object) -> bool:
        return slug in self._by_slug

    def get(self, slug: str) -> Profile:
        """The profile; NotFound where there is none of that name."""
        profile = self._by_slug.get(slug)
        if profile is None:
            known = ", ".join(self._by_slug)
            raise NotFound(f"There is no profile {slug[:100]!r}. Profiles: {known}.", code="unknown_profile")
        return profile

    def check(self, slug: str, overrides: Overrides, own_tools: Container[str] = ()) -> None:
        """Raise NotFound for an unknown profile, and NotAllowed for an override that it does not let a caller
        choose. `own_tools` are the names of those that the conversation has beside the profile's."""
        profile = self.get(slug)
        for name in ("system_prompt", "model", "tools", "middlewares"):
            if getattr(overrides, name) is not None and not profile.allows(name):
                raise NotAllowed(
                    f"The profile {slug} does not let you choose {name}.", field=f"overrides.{name}"
                )
        model = overrides.model
        if model is not None and not any(fnmatchcase(model, pattern) for pattern in self._models):
            raise NotAllowed(
                f"The model {model[:100]!r} is not one of those that c.WebChat.models allows.",
                field="overrides.model",
            )
        for tool in overrides.tools or ():
            if tool not in profile.tools and tool not in own_tools:
                raise NotAllowed(f"The tool {tool[:100]!r} is not available.", field="overrides.tools")
        self.make(overrides.middlewares or ())

    def choose(self, slug: str, overrides: Overrides) -> Chosen:
        """What a run of that profile works with. Raises NotFound and NotAllowed."""
        profile = self.get(slug)
        system, middlewares = overrides.system_prompt, overrides.middlewares
        return Chosen(
            profile,
            profile.system_prompt if system is None else system,
            profile.model if overrides.model is None else overrides.model,
            overrides.tools,
            self.make(profile.middlewares if middlewares is None else middlewares),
        )

    def make(self, specs: tuple[Any, ...]) -> tuple[Middleware, ...]:
        """The middlewares that are named. Raises NotAllowed."""
        return self._middlewares.make(specs, "overrides.middlewares")
