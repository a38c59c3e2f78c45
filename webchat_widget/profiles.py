"""Profiles: what a run begins with, and what its caller may choose otherwise."""

from __future__ import annotations

from collections.abc import Container
from fnmatch import fnmatchcase

from msgspec import Struct

from .errors import NotAllowed, NotFound
from .requests import Overrides

__all__ = ["Profile", "Profiles"]


class Profile(Struct, frozen=True, kw_only=True):
    """A named configuration. `models` are patterns (`gpt-*`, `*`) of models that a caller may ask for."""

    slug: str
    system_prompt: str = ""
    tools: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def check(self, overrides: Overrides, own_tools: Container[str] = ()) -> None:
        """Raise NotAllowed for an override that this profile does not let a caller choose.

        `own_tools` are the names of those that the conversation has beside the profile's.
        """
        model = overrides.model
        if model is not None and not any(fnmatchcase(model, pattern) for pattern in self.models):
            raise NotAllowed(
                f"The model {model[:100]!r} is not one of those that c.WebChat.models allows.",
                field="overrides.model",
            )
        for tool in overrides.tools or ():
            if tool not in self.tools and tool not in own_tools:
                raise NotAllowed(f"The tool {tool[:100]!r} is not available.", field="overrides.tools")
        for middleware in overrides.middlewares or ():
            name = str(middleware.get("name"))[:100]
            raise NotAllowed(f"The middleware {name!r} is not available.", field="overrides.middlewares")


class Profiles:
    """The profiles of a host, by slug."""

    def __init__(self, *profiles: Profile) -> None:
        self._by_slug = {profile.slug: profile for profile in profiles}

    def get(self, slug: str) -> Profile:
        """The profile; NotFound where there is none of that name."""
        profile = self._by_slug.get(slug)
        if profile is None:
            raise NotFound(f"There is no profile {slug[:100]!r}.", code="unknown_profile")
        return profile
