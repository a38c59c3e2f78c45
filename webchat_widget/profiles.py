"""Profiles: what a run begins with, and what its caller may choose otherwise."""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from .errors import NotAllowed, NotFound
from .middlewares.base import Middleware, Middlewares
from .middlewares.builtin import BUILTIN
from .requests import Overrides
from .typing import JSONObject

__all__ = ["DEFAULT", "Chosen", "Profile", "Profiles", "profile_of"]

DEFAULT = "default"
"""The slug of the profile that there always is."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_CHOICES = Overrides.__struct_fields__
_MAX_OWN = 64


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named configuration of a chat.

    ::

        Profile(slug="sql", system_prompt="Answer with one query.", middlewares=["history_limit"])

    `slug` has 1 to 64 of `a-z 0-9 _ -`, the first a letter or digit. `model` is None for the host's own.
    `tools` are names of the host's tools; those that a notebook brings a run has anyway. `middlewares` are
    names, `{name, config}` or Middleware objects, the first outermost. `allow_overrides` are the names of
    what a caller may choose otherwise (`system_prompt`, `model`, `tools`, `middlewares`), True for all;
    middlewares change the others, so it takes more than a lock on `system_prompt` to keep that.

    One that a notebook brings itself, `ChatWidget(profiles=…)`, has from the host's default profile what it
    does not say, and its `tools` are all that a run has, the notebook's too: `[]` for none.

    Raises ValueError for another slug, and for a name in `allow_overrides` that is none of these.
    """

    slug: str
    display_name: str = ""
    system_prompt: str = ""
    model: str | None = None
    tools: Sequence[str] | None = None
    middlewares: Sequence[Any] = ()
    allow_overrides: bool | Sequence[str] = True

    def __post_init__(self) -> None:
        if not isinstance(self.slug, str) or not _SLUG.fullmatch(self.slug):
            raise ValueError(
                "A profile's slug has 1 to 64 of a-z 0-9 _ -, the first a letter or digit; "
                f"{str(self.slug)[:100]!r} is none."
            )
        if not isinstance(self.allow_overrides, bool):
            for name in self.allow_overrides:
                if name not in _CHOICES:
                    raise ValueError(
                        f"allow_overrides takes True, False, or names of {', '.join(_CHOICES)}; "
                        f"{str(name)[:100]!r} is none."
                    )

    def allows(self, name: str) -> bool:
        """Whether a caller may choose `name` otherwise."""
        allowed = self.allow_overrides
        return allowed if isinstance(allowed, bool) else name in allowed

    def over(self, base: Profile) -> Profile:
        """This one, with what it does not say from `base`. It allows nothing that `base` does not."""
        return replace(
            self,
            display_name=self.display_name or base.display_name,
            system_prompt=self.system_prompt or base.system_prompt,
            model=self.model or base.model,
            tools=base.tools if self.tools is None else self.tools,
            middlewares=self.middlewares or base.middlewares,
            allow_overrides=tuple(name for name in _CHOICES if self.allows(name) and base.allows(name)),
        )

    def described(self) -> JSONObject:
        """What a page shows of it."""
        return {"slug": self.slug, "display_name": self.display_name or self.slug}


def profile_of(given: Any) -> Profile:
    """A profile from a Profile or a dict, checked, with its middlewares as JSON. Raises ValueError."""
    fields = asdict(given) if isinstance(given, Profile) else given
    if not isinstance(fields, Mapping):
        raise ValueError(f"A profile is a Profile, or a dict with a slug; {str(given)[:100]!r} is none.")
    try:
        profile = msgspec.convert(dict(fields), Profile)
        specs = [each.spec() if isinstance(each, Middleware) else each for each in profile.middlewares]
    except (msgspec.ValidationError, TypeError) as error:  # TypeError: a config that is no JSON
        raise ValueError(f"The profile {str(fields.get('slug'))[:100]!r} is malformed: {error}") from None
    return replace(profile, middlewares=tuple(specs))


class Chosen(Struct, frozen=True):
    """What a run works with. `tools` is None where it has all: the profile's, and the conversation's own.
    `refused` says of the conversation's settings which do not hold, in sentences."""

    profile: Profile
    system_prompt: str
    model: str | None
    tools: Sequence[str] | None
    middlewares: tuple[Middleware, ...]
    refused: tuple[str, ...] = ()


class Profiles:
    """The profiles of a host, by slug, and those that one conversation has beside them. `models` are patterns
    (`gpt-*`, `*`) of those that a caller may ask for."""

    def __init__(
        self, *profiles: Profile, models: Iterable[str] = ("*",), middlewares: Middlewares = BUILTIN
    ) -> None:
        default = Profile(slug=DEFAULT, display_name="Default")
        self._hosts = {DEFAULT: default}
        for profile in profiles:
            self._hosts[profile.slug] = profile.over(default) if profile.slug == DEFAULT else profile
        self._own: dict[str, Profile] = {}
        self._models = tuple(models)
        self._middlewares = middlewares

    def __iter__(self) -> Iterator[Profile]:
        yield from self._hosts.values()
        yield from self._own.values()

    def __contains__(self, slug: object) -> bool:
        return slug in self._hosts or slug in self._own

    def with_own(self, own: Iterable[Profile]) -> Profiles:
        """These, and those of a conversation. A host's profile hides one of the same slug."""
        both = Profiles(*self._hosts.values(), models=self._models, middlewares=self._middlewares)
        both._own = {profile.slug: profile for profile in own if profile.slug not in self._hosts}
        return both

    def get(self, slug: str) -> Profile:
        """The profile; NotFound where there is none of that name."""
        default = self._hosts[DEFAULT]
        if (own := self._own.get(slug)) is not None:
            return replace(own.over(default), tools=default.tools)
        profile = self._hosts.get(slug)
        if profile is None:
            known = ", ".join(each.slug for each in self)
            again = "" if self._own else " If it is one of a notebook, run the cell of its chat again."
            raise NotFound(
                f"There is no profile {slug[:100]!r}. Profiles: {known}.{again}", code="unknown_profile"
            )
        return profile

    def own(self, slug: str) -> Profile | None:
        """The conversation's own profile of that name, as it was brought."""
        return self._own.get(slug)

    def check(
        self, slug: str, overrides: Overrides, own_tools: Container[str] = (), field: str = "overrides"
    ) -> None:
        """Raise NotFound for an unknown profile, and NotAllowed for an override that it does not let a caller
        choose. `own_tools` are the names of those that the conversation has beside the profile's; `field` is
        what the overrides are called."""
        profile = self.get(slug)
        self._check_allowed(profile, overrides, field)
        for tool in overrides.tools or ():
            if tool not in (profile.tools or ()) and tool not in own_tools:
                raise NotAllowed(f"The tool {tool[:100]!r} is not available.", field=f"{field}.tools")

    def _check_allowed(self, profile: Profile, overrides: Overrides, field: str) -> None:
        """All but the tools, which a notebook may bring later."""
        for name in _CHOICES:
            if getattr(overrides, name) is not None and not profile.allows(name):
                raise NotAllowed(
                    f"The profile {profile.slug} does not let you choose {name}.", field=f"{field}.{name}"
                )
        if overrides.model is not None:
            self._check_model(overrides.model, f"{field}.model")
        middlewares = self._middlewares.make(overrides.middlewares or (), f"{field}.middlewares")
        for at, middleware in enumerate(middlewares):
            for model in middleware.models:
                self._check_model(model, f"{field}.middlewares[{at}].config")

    def _check_model(self, model: str, field: str) -> None:
        if not any(fnmatchcase(model, pattern) for pattern in self._models):
            raise NotAllowed(
                f"The model {model[:100]!r} is not one of those that c.WebChat.models allows.", field=field
            )

    def check_own(self, own: Sequence[Profile], own_tools: Container[str] = ()) -> None:
        """Raise NotAllowed for profiles of a conversation that the host has already, and for what a caller
        may not choose under the default profile: such a profile is a name for overrides."""
        if len(own) > _MAX_OWN:
            raise NotAllowed(f"A conversation has at most {_MAX_OWN} profiles of its own.", field="profiles")
        slugs = [profile.slug for profile in own]
        for at, profile in enumerate(own):
            field = f"profiles[{at}]"
            if profile.slug in self._hosts:
                raise NotAllowed(
                    f"The chat has a profile {profile.slug} already: give yours another slug.",
                    field=f"{field}.slug",
                )
            if profile.slug in slugs[:at]:
                raise NotAllowed(f"Two profiles have the slug {profile.slug}.", field=f"{field}.slug")
            self.check(DEFAULT, _overrides(profile), own_tools, field)

    def check_host(self, profile: Profile, tools: Collection[str]) -> None:
        """Raise ValueError for a profile of the host itself that names what there is not; `tools` are the
        names of the host's."""
        for tool in profile.tools or ():
            if tool not in tools:
                known = ", ".join(tools) or "none"
                raise ValueError(
                    f"The profile {profile.slug} has an unknown tool {tool[:100]!r}. Tools: {known}."
                )
        try:
            self._middlewares.make(profile.middlewares, "middlewares")
        except NotAllowed as error:
            raise ValueError(f"The profile {profile.slug}, {error.field}: {error.message}") from None

    def choose(self, slug: str, overrides: Overrides, settings: Overrides | None = None) -> Chosen:
        """What a run of that profile works with: what its prompt chooses, else what the profile itself says,
        else the conversation's settings as far as the profile lets one choose, else the default profile. The
        default one says nothing itself, and the tools of a host's are those that one may choose from.

        A prompt may have waited, and settings may have been stored, under a host that allowed more. Raises
        NotFound, and NotAllowed for what the prompt chooses, or the conversation's own profile, and may not
        now; settings that may not are left out.
        """
        profile, itself = self.get(slug), self._itself(slug)
        if slug in self._own:
            self._check_allowed(self._hosts[DEFAULT], itself, "profile")
        self._check_allowed(profile, overrides, "overrides")
        allowed, refused = self._allowed(profile, settings or Overrides())
        said = overrides.over(itself).over(allowed)
        return Chosen(
            profile,
            profile.system_prompt if said.system_prompt is None else said.system_prompt,
            profile.model if said.model is None else said.model,
            said.tools,
            self._middlewares.make(
                profile.middlewares if said.middlewares is None else said.middlewares, "overrides.middlewares"
            ),
            refused,
        )

    def _allowed(self, profile: Profile, settings: Overrides) -> tuple[Overrides, tuple[str, ...]]:
        """What holds of a conversation's settings under a profile, and why the rest does not; what a profile
        locks need no reason."""
        allowed: dict[str, Any] = {}
        refused = []
        for name in filter(profile.allows, _CHOICES):
            one = {name: getattr(settings, name)}
            try:
                self._check_allowed(profile, Overrides(**one), "settings")
            except NotAllowed as error:
                refused.append(error.message)
            else:
                allowed |= one
        return Overrides(**allowed), tuple(refused)

    def _itself(self, slug: str) -> Overrides:
        """What a profile says that is named: who names one means it."""
        if (own := self._own.get(slug)) is not None:
            return _overrides(own)
        return Overrides() if slug == DEFAULT else replace(_overrides(self._hosts[slug]), tools=None)


def _overrides(profile: Profile) -> Overrides:
    """What a profile chooses otherwise than the default one."""
    return Overrides(
        system_prompt=profile.system_prompt or None,
        model=profile.model,
        tools=None if profile.tools is None else tuple(profile.tools),
        middlewares=tuple(profile.middlewares) or None,
    )
