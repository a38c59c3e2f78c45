"""The profiles of a chat that this kernel hosts: its default one, and those of installed packages."""

from __future__ import annotations

from functools import cache

from webchat_widget.middlewares.base import Middlewares
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.plugins import installed_middlewares, installed_profiles
from webchat_widget.profiles import Profile, Profiles
from webchat_widget.tools.calculate import calculate

from .host import kernel_host

__all__ = ["HOST_TOOLS", "kernel_profiles"]

HOST_TOOLS = (calculate.__name__,)
"""What profiles may name beside a notebook's own tools, as on a server."""


def kernel_profiles(default: Profile, kinds: Middlewares) -> Profiles:
    """All of them. `kinds` are middlewares that the notebook has made, which go before others of the name."""
    installed, profiles = _installed()
    return Profiles(default, *profiles, middlewares=kinds.over(installed).over(BUILTIN))


@cache
def _installed() -> tuple[Middlewares, tuple[Profile, ...]]:
    """Looked up once: what is installed later needs another kernel anyway."""
    log = kernel_host().log
    kinds = installed_middlewares(log)
    return kinds, installed_profiles(log, kinds.over(BUILTIN), HOST_TOOLS)
