"""The extension: configuration in, a ChatService out, mounted below `{base_url}webchat/`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.extension.application import ExtensionApp, ExtensionAppJinjaMixin
from traitlets import Bool, Enum, Float, Int, List, TraitError, Unicode, default

from webchat_widget.engines.base import Engine
from webchat_widget.engines.demo import DemoEngine
from webchat_widget.engines.openai import OpenAIEngine, api_fault
from webchat_widget.errors import WebChatError
from webchat_widget.profiles import DEFAULT, Profile, Profiles
from webchat_widget.runtime.environment import Environment, RuntimeSettings
from webchat_widget.runtime.pool import PoolSettings
from webchat_widget.runtime.service import ChatService
from webchat_widget.timeline.files import FOLDER
from webchat_widget.timeline.memory import MemoryStore
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.store import TimelineStore
from webchat_widget.tools.calculate import calculate
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.loop import Limits
from webchat_widget.tools.registry import ToolRegistry

from . import timeline_app
from .configuration import configured_profiles
from .handlers import ROUTES
from .kernel_tools import MESSAGE

__all__ = ["WebChat", "main"]

_KEY = "OPENAI_API_KEY"
_ADVISED = {"jupyter_server": (2, 21), "tornado": (6, 5, 3)}
"""Older versions work, but security advisories ask for these (SECURITY.md)."""


class WebChat(ExtensionAppJinjaMixin, ExtensionApp):
    """A chat with a model, for notebooks and as a page of its own."""

    name = "jupyter_server_webchat"
    app_name = "Jupyter Webchat"
    description = "Chat with a model, on a page of its own; notebooks show the same conversations."
    extension_url = "/webchat/"
    load_other_extensions = True
    file_url_prefix = "/webchat"

    engine = Enum(
        ("auto", "openai", "demo"),
        "auto",
        help="Who answers. auto: a model where OPENAI_API_KEY, OPENAI_BASE_URL or base_url names one, else "
        "the embedded demo.",
    ).tag(config=True)
    model = Unicode(
        help="The model that answers. Default: WEBCHAT_MODEL; else, where only base_url is given, the first "
        "that the server lists."
    ).tag(config=True)
    base_url = Unicode(
        help="Address of a server that speaks the OpenAI protocol, say http://localhost:11434/v1. Default: "
        "OPENAI_BASE_URL."
    ).tag(config=True)
    api = Enum(
        ("chat", "responses"),
        help="How the model is asked: by chat completions, which every compatible server speaks, or by the "
        "Responses API, in which OpenAI's models keep their thoughts between tool calls. Default: "
        "WEBCHAT_API, else chat.",
    ).tag(config=True)
    models = List(
        Unicode(), ["*"], help="Models that a notebook may ask for (patterns); an empty list: only `model`."
    ).tag(config=True)
    system_prompt = Unicode(help="What the model is told before every conversation.").tag(config=True)
    profiles: List[Any] = List(
        help="Named configurations that a prompt may ask for: dicts with slug, and display_name, "
        "system_prompt, model, tools, middlewares, allow_overrides as needed. What one with the slug "
        "`default` does not say is as in model, system_prompt and the like."
    ).tag(config=True)
    middlewares = List(
        Unicode(),
        help="Middlewares beside those of the package, for profiles to name: package.module:Class.",
    ).tag(config=True)
    timeline_db = Unicode(
        help="The SQLite file that keeps the conversations; ':memory:' for none. Default: a file per root "
        "directory in Jupyter's data directory."
    ).tag(config=True)
    strip_key = Bool(
        True,
        help="Take OPENAI_API_KEY out of the environment that kernels inherit. It still is in the memory of "
        "this process, which kernels of the same user may read.",
    ).tag(config=True)
    demo_delay = Float(0.03, help="Seconds between two pieces of text of the demo engine.").tag(config=True)
    model_timeout = Float(
        60.0,
        help="Seconds without anything of an answer; what a server sends to keep a connection open is none.",
    ).tag(config=True)
    idle_timeout = Float(
        60.0, help="Seconds without a reader after which a conversation counts as idle."
    ).tag(config=True)
    evict_after = Float(
        300.0, help="Seconds that an idle conversation stays in memory. It is on disk all the same."
    ).tag(config=True)
    max_queue = Int(20, help="Prompts that may wait in one conversation.").tag(config=True)
    max_readers = Int(100, help="Pages that may show one conversation at a time.").tag(config=True)
    max_rounds = Int(20, help="Requests to the model in one run, tools between them.").tag(config=True)
    max_run_seconds = Float(1800.0, help="Wall time of one run.").tag(config=True)
    max_tool_seconds = Float(120.0, help="Wall time of one tool call.").tag(config=True)
    max_text = Int(4_000_000, help="Characters of one run's answers.").tag(config=True)
    max_body_bytes = Int(2**20, help="Size of a request without attachments.").tag(config=True)
    max_attachment_bytes = Int(20 * 2**20, help="Size of a prompt's request, attachments included.").tag(
        config=True
    )

    aliases = {  # noqa: RUF012 - traitlets wants a plain dict here
        "engine": "WebChat.engine",
        "model": "WebChat.model",
        "base-url": "WebChat.base_url",
        "system-prompt": "WebChat.system_prompt",
        "timeline-db": "WebChat.timeline_db",
        "idle-timeout": "WebChat.idle_timeout",
        "evict-after": "WebChat.evict_after",
    }

    @default("model")
    def _default_model(self) -> str:
        return os.environ.get("WEBCHAT_MODEL", "")

    @default("base_url")
    def _default_base_url(self) -> str:
        return os.environ.get("OPENAI_BASE_URL", "")

    @default("api")
    def _default_api(self) -> str:
        word = os.environ.get("WEBCHAT_API", "").strip() or "chat"
        if (wrong := api_fault(word)) is not None:
            raise TraitError(wrong)
        return word

    @default("timeline_db")
    def _default_timeline_db(self) -> str:
        """One file per root directory: notebooks are known by their path below it, and two servers with
        different roots must neither share nor fight for a file."""
        assert self.serverapp is not None
        root = hashlib.sha256(os.path.realpath(self.serverapp.root_dir).encode()).hexdigest()[:12]
        return str(Path(jupyter_data_dir()) / "webchat" / f"timeline-{root}.sqlite")

    @default("static_paths")
    def _default_static_paths(self) -> list[str]:
        return [str(files("webchat_widget") / "static")]

    @default("template_paths")
    def _default_template_paths(self) -> list[str]:
        return [str(files("jupyter_server_webchat") / "templates")]

    def initialize_settings(self) -> None:
        """Build the service."""
        self._answering = self._engine()
        self._tools = ToolRegistry([function_tool(calculate)])
        profiles = self._profiles()
        if self.strip_key and os.environ.pop(_KEY, ""):
            self.log.info("webchat: %s is kept here and hidden from kernels (c.WebChat.strip_key)", _KEY)
        self.service = ChatService(self._environment(profiles))
        self.settings["webchat_service"] = self.service
        self.settings["webchat_max_body_bytes"] = self.max_body_bytes
        self.settings["webchat_max_attachment_bytes"] = self.max_attachment_bytes
        self._leave_kernels_busy()
        self._advise()

    def initialize_handlers(self) -> None:
        """Mount the routes, and close what a crash left open as soon as the loop runs."""
        self.handlers.extend(ROUTES)
        assert self.serverapp is not None
        self.serverapp.io_loop.add_callback(self._start)

    async def stop_extension(self) -> None:
        """End runs as interrupted, store everything, close the sockets: within 5 s."""
        try:
            async with asyncio.timeout(5):
                await self.service.close()
                await self._answering.aclose()
        except TimeoutError:
            self.log.error("webchat: the chat did not close within 5 s")

    def current_activity(self) -> dict[str, int] | None:
        """What keeps the server from being culled as idle."""
        busy = self.service.busy
        return {"running_chats": busy} if busy else None

    async def _start(self) -> None:
        try:
            await self.service.start()
        except WebChatError as error:
            self.log.error("webchat: %s", error)

    def _engine(self) -> Engine:
        key = os.environ.get(_KEY, "").strip() or None
        if self.engine == "demo" or (self.engine == "auto" and not key and not self.base_url):
            self.log.info("webchat: no model is configured, the demo engine answers")
            return DemoEngine(self.demo_delay)
        engine = OpenAIEngine(
            model=self.model or None,
            base_url=self.base_url or None,
            api_key=key,
            api=self.api,
            timeout=self.model_timeout,
        )
        self.log.info("webchat: %s answers", engine)
        return engine

    def _profiles(self) -> Profiles:
        default = Profile(
            slug=DEFAULT,
            system_prompt=self.system_prompt,
            tools=("calculate",) if self._answering.name == "demo" else (),
        )
        try:
            return configured_profiles(
                default, self.profiles, self.middlewares, self.models, self._tools.names, self.log
            )
        except ValueError as error:
            assert self.serverapp is not None
            if self.serverapp.starter_app is self:  # `jupyter webchat`, which is nothing without the chat
                self.log.critical("webchat: %s", error)
                self.exit(1)
            raise TraitError(str(error)) from None

    def _environment(self, profiles: Profiles) -> Environment:
        return Environment(
            engine=self._answering,
            store=self._store(),
            profiles=profiles,
            tools=self._tools,
            settings=RuntimeSettings(
                queue=self.max_queue,
                run_seconds=self.max_run_seconds,
                readers=self.max_readers,
                evict_after=self.evict_after,
                pool=PoolSettings(idle_timeout=self.idle_timeout),
                limits=Limits(rounds=self.max_rounds, tool_seconds=self.max_tool_seconds, text=self.max_text),
            ),
            log=self.log,
        )

    def _store(self) -> TimelineStore:
        if self.timeline_db == ":memory:":
            return MemoryStore()  # it takes nothing in: that would be lost with the process
        self.log.info("webchat: conversations are kept in %s", self.timeline_db)
        return AdoptingStore(self.timeline_db, Path(jupyter_data_dir(), *FOLDER))

    def _leave_kernels_busy(self) -> None:
        """What we say to a kernel on its control channel is no sign that its cell has ended: Jupyter keeps a
        list of such messages, for its own use and for its pages."""
        assert self.serverapp is not None
        kernels = self.serverapp.kernel_manager
        if kernels.has_trait("untracked_message_types"):
            kernels.untracked_message_types = [*kernels.untracked_message_types, MESSAGE]

    def _advise(self) -> None:
        for package, wanted in _ADVISED.items():
            have = version(package)
            if tuple(int(part) for part in have.split(".")[:3] if part.isdigit()) < wanted:
                self.log.warning(
                    "webchat: %s %s has known security problems; %s or newer is advised",
                    package,
                    have,
                    ".".join(map(str, wanted)),
                )


def main(argv: Any = None) -> None:
    """`jupyter webchat`: a Jupyter server that opens on the chat; `jupyter webchat timeline`: its files."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["timeline"]:
        sys.exit(timeline_app.main(words[1:]))
    WebChat.launch_instance(argv)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
