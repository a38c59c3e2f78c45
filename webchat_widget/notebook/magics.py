"""`%chat` and `%%chat`, after `%load_ext webchat_widget`.

Neither the widget nor a model's SDK is imported before one of them is used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.display import display
from IPython.utils.process import arg_split  # type: ignore[attr-defined]

from webchat_widget.errors import WebChatError
from webchat_widget.timeline.export import FORMATS, export
from webchat_widget.timeline.transcript import line as in_one_line

from .last_error import LastError

if TYPE_CHECKING:
    from .widget import ChatWidget

__all__ = ["load", "unload"]

_USAGE = """\
%chat                            show the chat (`chat = %chat` gives it a name)
%chat new                        begin another conversation, with the same tools
%chat list                       the conversations that are kept here
%chat export [FILE] [--force]    the conversation: below the cell, or as .md, .json or .ipynb
%chat tools                      what the model may call of this notebook
%chat stop                       end the answer that is being written
%chat fix                        ask why the last cell failed
%chat help                       this

%%chat [-p PROFILE] [-c CONV] [-m MODEL] [--no-wait]
                                 ask: the prompt is the rest of the cell"""

_COMMANDS = ("new", "list", "export", "tools", "stop", "fix", "help")
_ASKS = {"ask": "asks first", "each": "asks each time", "never": "no", "predicate": "asks for some calls"}


@magics_class
class ChatMagics(Magics):
    """The two magics of one shell.

    They speak in the conversation of the widget that was made last; where there is none, in the notebook's
    own.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.last_error = LastError(shell)
        self._siblings: dict[str, ChatWidget] = {}
        """The conversations that `-c` has named and no other widget shows."""

    @magic_arguments(name="chat")
    @argument("-p", "--profile", help="the profile that answers, by its slug")
    @argument("-c", "--conv", metavar="CONV", help="ask in this conversation, instead of the notebook's")
    @argument("-m", "--model", help="the model that answers this prompt")
    @argument("--no-wait", action="store_true", help="let the cell end; the answer comes when it comes")
    @cell_magic("chat")  # type: ignore[arg-type]
    def ask(self, line: str, cell: str) -> None:
        """Ask the chat: the cell is the prompt.

        The answer comes below the cell as it is written, and stays there as text. It is part of the
        notebook's conversation, with all that a prompt in the widget has: tools, `@name`, the memory of what
        was said. Interrupt the cell to stop it.
        """
        given = self.ask.parser.parse_args(_words(line))
        if not cell.strip():
            raise UsageError("The cell holds no prompt: write it below the line with %%chat.")
        with _one_line():
            chat = self._chat() if given.conv is None else self._other(given.conv)
            self._send(chat, cell.strip(), wait=not given.no_wait, profile=given.profile, model=given.model)

    @magic_arguments(name="chat")
    @argument("words", nargs="*", metavar="COMMAND", help=f"{', '.join(_COMMANDS)}, or nothing")
    @argument("--force", action="store_true", help="let `export` overwrite a file")
    @line_magic("chat")  # type: ignore[arg-type]
    def command(self, line: str) -> Any:
        """The notebook's chat. `%chat` shows it; `%chat help` tells the commands; `%%chat` asks."""
        given = self.command.parser.parse_intermixed_args(_words(line))
        name, *rest = given.words or ("",)
        if name not in ("", *_COMMANDS):
            raise UsageError(_unknown(name))
        if rest[name == "export" :]:
            raise UsageError(f"%chat {name} takes no {rest[-1]!r}.")
        if given.force and name != "export":
            raise UsageError("--force goes with %chat export.")
        with _one_line():
            match name:
                case "":
                    return self._chat()
                case "new":
                    return self._new()
                case "list":
                    self._list()
                case "export":
                    self._export(rest[0] if rest else "", force=given.force)
                case "tools":
                    self._tools()
                case "stop":
                    self._stop()
                case "fix":
                    self._fix()
                case "help":
                    print(_USAGE)
        return None

    # -- which chat ----------------------------------------------------------------------------------------

    def _chat(self) -> ChatWidget:
        from .widget import ChatWidget, latest_widget

        return latest_widget() or ChatWidget()

    def _other(self, conv_id: str) -> ChatWidget:
        """The chat of a conversation that is named; it is not the one for later cells."""
        from .views import Sibling
        from .widget import latest_widget

        if (made := latest_widget(conv_id)) is not None:
            return made
        if conv_id not in self._siblings:
            self._siblings[conv_id] = Sibling(self._chat(), conv_id)
        return self._siblings[conv_id]

    # -- the commands --------------------------------------------------------------------------------------

    def _send(self, chat: ChatWidget, prompt: str, *, wait: bool = True, **chosen: str | None) -> None:
        from .live import show

        named = {name: value for name, value in chosen.items() if value is not None}
        try:
            show(chat, partial(chat.send, prompt, **named), wait=wait)
        except KeyboardInterrupt as interrupt:
            # The cells that wait behind this one are not run, as after any interrupt; our frames are no news.
            interrupt._render_traceback_ = lambda: ["KeyboardInterrupt: the answer was stopped"]  # type: ignore[attr-defined]
            raise

    def _new(self) -> ChatWidget:
        import uuid

        from .views import Sibling
        from .widget import make_latest

        chat = Sibling(self._chat(), str(uuid.uuid4()))
        make_latest(chat)
        return chat

    def _list(self) -> None:
        chat = self._chat()
        kept = chat.conversations()
        if not kept:
            print("No conversation is kept here yet.")
            return
        rows = [
            (
                ("→ " if each["conv_id"] == chat.conv_id else "") + (each["title"] or "(no title)"),
                each["conv_id"],
                time.strftime("%Y-%m-%d %H:%M", time.localtime(each["updated_at"] / 1000)),
            )
            for each in kept
        ]
        _show_table(("conversation", "conv_id", "last changed"), *rows)

    def _export(self, name: str, *, force: bool) -> None:
        chat = self._chat()
        if not name:
            text = export(chat.entities, chat.conv_id, ".md")
            display({"text/markdown": text, "text/plain": text}, raw=True)
            return
        file = Path(name).expanduser()
        if file.suffix.lower() not in FORMATS:
            raise UsageError(f"%chat export writes {', '.join(FORMATS)}; {name} ends in none of them.")
        text = export(chat.entities, chat.conv_id, file.suffix.lower())
        try:
            with file.open("w" if force else "x", encoding="utf-8") as opened:
                opened.write(text)
        except FileExistsError:
            raise UsageError(f"{name} is there already; with --force it is overwritten.") from None
        except OSError as error:
            raise UsageError(f"{name} can't be written: {error.strerror}.") from None
        print(f"Wrote {name}.")

    def _tools(self) -> None:
        tools = self._chat()._home.tools
        if not tools:
            print("The model may call nothing of this notebook: ChatWidget(tools=[…]) names what it may.")
            return
        rows = [
            (tool.name, tool.schema.description.partition("\n")[0], _ASKS[tool.approval]) for tool in tools
        ]
        _show_table(("tool", "what it does", "asks you"), *rows)

    def _stop(self) -> None:
        chat = self._chat()
        runs = any(row["kind"] == "run" and row["props"]["status"] == "started" for row in chat.entities)
        chat.stop()
        print("Stopped." if runs else "Nothing was being written.")

    def _fix(self) -> None:
        failure = self.last_error.failure
        if failure is None:
            print("No cell has failed yet.")
            return
        self._send(self._chat(), self.last_error.prompt(failure))


def load(shell: InteractiveShell) -> None:
    """Give a shell the magics, once."""
    unload(shell)
    magics = ChatMagics(shell)
    shell.register_magics(magics)
    shell.events.register("post_run_cell", magics.last_error.watch)


def unload(shell: InteractiveShell) -> None:
    """Take them away, if they are there."""
    magics = shell.magics_manager.registry.pop(ChatMagics.__name__, None)
    if magics is None:
        return
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("chat", None)
    shell.events.unregister("post_run_cell", magics.last_error.watch)


@contextmanager
def _one_line() -> Iterator[None]:
    """What the chat refuses is one line, and no traceback."""
    try:
        yield
    except WebChatError as error:
        raise UsageError(error.message) from None


def _words(line: str) -> list[str]:
    try:
        words = arg_split(line, posix=False)  # a backslash is a part of a path
    except ValueError:
        raise UsageError("A quotation mark in this line has no partner.") from None
    return [word[1:-1] if word[:1] in ("'", '"') else word for word in words]


def _unknown(name: str) -> str:
    near = get_close_matches(name.lower(), _COMMANDS, n=1)
    hint = f"Did you mean `%chat {near[0]}`?" if near else "A prompt goes below a line with %%chat."
    return f"There is no `%chat {name}`. {hint}\n\n{_USAGE}"


def _show_table(*rows: tuple[str, ...]) -> None:
    """A table, its head first, for those who see Markdown and for those who don't."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    plain = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    head, *body = (f"| {' | '.join(map(in_one_line, row))} |" for row in rows)
    markdown = [head, f"|{' --- |' * len(widths)}", *body]
    display({"text/markdown": "\n".join(markdown), "text/plain": "\n".join(plain)}, raw=True)
