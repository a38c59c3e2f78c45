"""The server's profiles: those of its configuration, before those of installed packages."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from importlib import import_module
from typing import Any

from webchat_widget.middlewares.base import Middleware, Middlewares
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.plugins import checked_kind, installed_middlewares, installed_profiles
from webchat_widget.profiles import Profile, Profiles, profile_of

__all__ = ["configured_profiles"]


def configured_profiles(
    default: Profile,
    profiles: Iterable[Any],
    middlewares: Iterable[str],
    models: Iterable[str],
    tools: Collection[str],
    log: logging.Logger,
) -> Profiles:
    """All profiles of this server. An entry of the default's slug is laid over `default`; `tools` are the
    names of the server's.

    Raises ValueError, with the name of the setting, for whatever is wrong with the configuration; what an
    installed package has wrong is logged.
    """
    kinds = Middlewares(map(_kind, middlewares))
    known = kinds.over(installed_middlewares(log)).over(BUILTIN)
    check = Profiles(middlewares=known).check_host
    configured = {default.slug: default}
    for at, given in enumerate(profiles):
        try:
            profile = profile_of(given)
            if profile.slug in configured and configured[profile.slug] is not default:
                raise ValueError(f"Two profiles have the slug {profile.slug}.")
            check(profile, tools)
        except ValueError as error:
            raise ValueError(f"c.WebChat.profiles[{at}]: {error}") from None
        configured[profile.slug] = profile.over(default) if profile.slug == default.slug else profile
    installed = [p for p in installed_profiles(log, known, tools) if p.slug not in configured]
    return Profiles(*configured.values(), *installed, models=models, middlewares=known)


def _kind(path: str) -> type[Middleware]:
    """A kind of middleware by where it is: `package.module:Class`."""
    module, _, name = path.partition(":")
    try:
        return checked_kind(getattr(import_module(module), name))
    except Exception as error:  # importing it runs a stranger's code
        raise ValueError(
            f"c.WebChat.middlewares: {path!r} can't be used, it must be package.module:Class "
            f"({str(error) or repr(error)})."
        ) from None
