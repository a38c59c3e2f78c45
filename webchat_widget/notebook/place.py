"""Where a widget's chat runs: on the Jupyter server, or in this kernel; and why."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from webchat_widget.engines.environment import names_a_model
from webchat_widget.errors import NotAllowed, ServerUnavailable, WebChatError

from .remote import RemoteChat, find_server

__all__ = ["Place", "choose"]


class Place(Struct, frozen=True):
    """`where` is `server` or `kernel`, `reason` a sentence, `server` what Python reaches of it."""

    where: str
    reason: str
    server: RemoteChat | None = None


def choose(
    wanted: str = "auto", kernel_only: Sequence[str] = (), own_kernels_only: Sequence[str] = ()
) -> Place:
    """Find the place for `where=wanted`; `kernel_only` names the arguments that only a kernel can take, and
    `own_kernels_only` those that a server takes from kernels that it knows, of which this is none.

    Raises ServerUnavailable where the server is wanted and has no chat; NotAllowed where it is wanted with
    something that it can't take; ValueError for another word.
    """
    if wanted not in ("auto", "server", "kernel"):
        raise ValueError("where must be 'auto', 'server' or 'kernel'.")
    given, refused = _kernel_only(kernel_only), ""
    if own_kernels_only:
        refused = f"A Jupyter server takes {_named(own_kernels_only)} from its own kernels only."
    if wanted == "server" and (why := given or refused):
        field = (*kernel_only, *own_kernels_only)[0]
        raise NotAllowed(f"{why} Leave out where='server'.", code="not_supported", field=field)
    try:
        server = RemoteChat(find_server())
        health = server.health()
    except WebChatError as error:
        return _without_server(wanted, given, error)
    engine = f"its {health.get('engine')} engine answers"
    if wanted == "server":
        return Place("server", f"where='server' was asked for; {engine}.", server)
    if wanted == "kernel":
        return Place("kernel", "where='kernel' was asked for.", server)
    if given or refused:
        return Place("kernel", given or refused, server)
    if health.get("engine") != "demo":
        return Place("server", f"The Jupyter server runs the webchat extension; {engine}.", server)
    if names_a_model():
        return Place("kernel", "Only this kernel's environment names a model; the server has none.", server)
    return Place("server", f"The Jupyter server runs the webchat extension; {engine}.", server)


def _kernel_only(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"{_named(names)} {'works' if len(names) == 1 else 'work'} in the kernel only."


def _named(arguments: Sequence[str]) -> str:
    return " and ".join(f"{name}=" for name in arguments)


def _without_server(wanted: str, given: str, error: WebChatError) -> Place:
    """Python has no way to a chat server; a page may have one where only a credential is missing here."""
    if wanted == "server":
        if error.code == "no_credential":
            return Place("server", f"where='server' was asked for. {error.message}")
        raise ServerUnavailable(
            f"{error.message} Without where='server' the chat runs in the kernel.", code=error.code
        )
    if wanted == "kernel":
        return Place("kernel", "where='kernel' was asked for.")
    if given:
        return Place("kernel", given)
    return Place("kernel", f"The chat runs in this kernel. {error.message}")
