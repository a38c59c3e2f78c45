"""rest-api.yml is a valid description, and of the routes that there are."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from jupyter_server_webchat.handlers import ROUTES

VERBS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    """The description."""
    text = (files("jupyter_server_webchat") / "rest-api.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def test_it_is_valid_openapi(api: dict[str, Any]) -> None:
    validate(api)


def test_it_tells_of_every_route_and_of_no_other(api: dict[str, Any]) -> None:
    described = {(path, verb) for path, item in api["paths"].items() for verb in VERBS if verb in item}
    served = set()
    for pattern, handler, *_ in ROUTES:
        if pattern == "webchat":  # only sends its visitor to the page
            continue
        path = pattern.removeprefix("webchat")
        name = "{profile}" if path.startswith("/chat") else "{conv_id}"
        second = "{pause_id}" if "/pauses/" in path else "{call_id}"
        path = path.replace("([^/]+)", name, 1).replace("([^/]+)", second)
        own = [kind for kind in handler.__mro__ if kind.__module__.startswith("jupyter_server_webchat")]
        served |= {(path, verb) for verb in VERBS if any(verb in vars(kind) for kind in own)}
    assert described == served
