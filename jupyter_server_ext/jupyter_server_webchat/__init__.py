"""The Jupyter server as a host of webchat_widget: routes, a socket and a page on Tornado."""

from __future__ import annotations

from typing import Any

__all__ = ["_jupyter_server_extension_points"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter finds the extension."""
    from .app import WebChat

    return [{"module": "jupyter_server_webchat.app", "app": WebChat}]
