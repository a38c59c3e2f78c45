"""A page at the far end of a widget's comm, without a browser: it asks, and keeps what is published."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.support.waiting import until
from webchat_widget.engines.base import Engine
from webchat_widget.notebook.comm import Port
from webchat_widget.notebook.functions import registry_of
from webchat_widget.notebook.host import kernel_host
from webchat_widget.notebook.hosted import Equipment, Hosted, engine_of

__all__ = ["Line"]


class Line:
    """A hosted conversation, the port of one widget, and all that the port has published, pieces joined."""

    def __init__(
        self, engine: Engine | None = None, *functions: Callable[..., Any], conv_id: str = "c"
    ) -> None:
        host = kernel_host()
        self.conv_id = conv_id
        self.hosted = Hosted(conv_id, host.folder, host.log)
        host.register(self.hosted.close)
        host.post(self.hosted.equip, Equipment(engine_of(engine), registry_of(functions)), {})
        self.port = Port(host, lambda: self.hosted, self._publish)
        self.raw: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.messages: list[dict[str, Any]] = []
        self._pieces: dict[str, list[str]] = {}

    # -- what a page does --------------------------------------------------------------------------------

    def tell(self, op: str, **body: Any) -> str:
        """Ask without waiting for the answer; returns what the answer will carry."""
        rid = str(uuid.uuid4())
        self.port.receive({"op": op, "rid": rid, "body": body})
        return rid

    def ask(self, op: str, **body: Any) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        return self.reply(self.tell(op, **body))

    def reply(self, rid: str) -> dict[str, Any]:
        """The answer to a question."""
        return until(
            lambda: next((m for m in self.messages if m.get("rid") == rid), None), f"a reply to {rid}"
        )

    def open(self) -> str:
        """Open the stream; returns its name."""
        rid = self.tell("open", conv_id=self.conv_id)
        assert self.reply(rid)["status"] == 200
        return rid

    def say(self, prompt: str = "hi") -> str:
        """Send a prompt; returns the run's id."""
        return str(self.ask("chat", conv_id=self.conv_id, prompt=prompt)["body"]["run_id"])

    # -- what it hears -----------------------------------------------------------------------------------

    @property
    def frames(self) -> list[dict[str, Any]]:
        """All frames that came."""
        return [frame for message in self.messages for frame in message.get("frames", ())]

    def types(self) -> list[str]:
        """The types of all frames that came."""
        return [frame["event"]["type"] for frame in self.frames]

    def until_type(self, type: str, count: int = 1) -> None:
        """Wait for so many frames of a type."""
        until(lambda: self.types().count(type) >= count, f"{count} of {type}")

    def _publish(self, message: dict[str, Any]) -> None:
        # As Jupyter packs it: what is no JSON, and no UTF-8, fails here.
        text = json.dumps(message, ensure_ascii=False, allow_nan=False).encode().decode()
        self.raw.append(json.loads(text))
        self.times.append(time.monotonic())
        heard = self.raw[-1]
        if "piece" in heard:
            piece = heard["piece"]
            texts = self._pieces.setdefault(piece["of"], [])
            assert piece["index"] == len(texts), "pieces come in order"
            texts.append(heard["text"])
            if len(texts) == piece["count"]:
                self.messages.append(json.loads("".join(texts)))
        else:
            self.messages.append(heard)
