"""`jupyter webchat timeline`: look into the files in which conversations are kept, and look after them.

Whoever has a file open is not disturbed: all but `prune` read a copy of it, and write nothing.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

from webchat_widget.errors import WebChatError
from webchat_widget.timeline.export import FORMATS, export
from webchat_widget.timeline.files import FOLDER
from webchat_widget.timeline.sqlite.inspection import Listed, counts, entities, listed, verify
from webchat_widget.timeline.sqlite.prune import chosen, prune
from webchat_widget.timeline.sqlite.snapshot import snapshot
from webchat_widget.typing import Entity

__all__ = ["main"]

_OK, _BREACHES, _UNREADABLE = 0, 1, 2
_TEXT = 100
"""Characters of a row, or of a title, in a list."""
_AGE = re.compile(r"([0-9]{1,5})([hdw])")
_MS = {"h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

_DESCRIPTION = """\
Look into the files in which conversations are kept, and look after them. A server or a kernel that has one
open goes on undisturbed; nothing but `prune` writes to it."""
_EPILOG = """\
Without --db: the timelines of all servers, and the conversations of all kernels, in Jupyter's data directory.
A server whose configuration sets c.WebChat.timeline_db keeps its conversations there: name that file.

The exit status is 0 where all is well, 1 where `verify` found a breach of the rules, and 2 where something
could not be read or done."""


class _Failed(Exception):
    """The command can't be done; the message says why."""


def main(argv: Sequence[str]) -> int:
    """Run a command; the exit status."""
    given = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has every character
    try:
        status: int = given.command(given)
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OK
    except (_Failed, WebChatError) as error:
        _complain(str(error))
        return _UNREADABLE
    return status


# -- the commands ------------------------------------------------------------------------------------


def _list(given: argparse.Namespace) -> int:
    def show(file: Path) -> int:
        with snapshot(file) as db:
            found = listed(db)
        print(file)
        for each in found:
            print(f"  {_line(each)}")
        return _OK

    return _of_each(given, show)


def _show(given: argparse.Namespace) -> int:
    for row in _found(given):
        print(f"{_when(row['createdAt'])}  {_cut(row['kind'], 12):12}  {_said(row)}")
    return _OK


def _stats(given: argparse.Namespace) -> int:
    def show(file: Path) -> int:
        sizes = [_size(file.with_name(f"{file.name}{suffix}")) for suffix in ("", "-wal")]
        with snapshot(file) as db:
            found = counts(db)
        print(file)
        for name, count in {"bytes of the file": sizes[0], "bytes of its -wal": sizes[1], **found}.items():
            print(f"  {count:>15,}  {_plain(name)}")
        return _OK

    return _of_each(given, show)


def _verify(given: argparse.Namespace) -> int:
    def show(file: Path) -> int:
        verdict = verify(file)
        what = f"{_many(verdict.conversations, 'conversation')}, {_many(verdict.rows, 'row')}"
        found = _many(len(verdict.breaches), "breach", "es") if verdict.breaches else "all as it should be"
        print(f"{file}: {what}: {found}")
        for breach in verdict.breaches:
            where = " ".join(filter(None, (breach.conv_id, breach.id)))
            print(f"  {breach.rule}: {_plain(f'{where}: ' if where else '')}{_plain(breach.sentence)}")
        return _BREACHES if verdict.breaches else _OK

    return _of_each(given, show)


def _export(given: argparse.Namespace) -> int:
    rows = _found(given)
    if given.file is None:
        text = export(rows, given.conv_id, ".md")
        print(_plain(text, "\n\t") if sys.stdout.isatty() else text, end="")
        return _OK
    file = Path(given.file)
    if file.suffix.lower() not in FORMATS:
        raise _Failed(f"export writes {', '.join(FORMATS)}; {file} ends in none of them.")
    try:
        with file.open("w" if given.force else "x", encoding="utf-8") as opened:
            opened.write(export(rows, given.conv_id, file.suffix.lower()))
    except FileExistsError:
        raise _Failed(f"{file} is there already; with --force it is overwritten.") from None
    except OSError as error:
        raise _Failed(f"{file} can't be written: {error.strerror}.") from None
    print(f"Wrote {file}.")
    return _OK


def _prune(given: argparse.Namespace) -> int:
    if given.older_than is None and given.conv is None:
        raise _Failed("Say which conversations: --older-than 90d, --conv ID, or both.")
    before = None if given.older_than is None else time.time_ns() // 1_000_000 - given.older_than
    pruned = 0

    def show(file: Path) -> int:
        nonlocal pruned
        if given.dry_run:
            with snapshot(file) as db:
                gone = chosen(db, before=before, conv_id=given.conv)
        else:
            # A kernel's file has one conversation; it goes with it.
            drop = file.parent.parts[-len(FOLDER) :] == FOLDER
            gone = prune(file, before=before, conv_id=given.conv, drop_empty=drop)
        pruned += len(gone)
        if gone:
            print(file)
        for each in gone:
            print(f"  {_line(each)}")
        return _OK

    status = _of_each(given, show)
    print(f"{'To delete' if given.dry_run else 'Deleted'}: {_many(pruned, 'conversation')}.")
    return status


# -- files and conversations -------------------------------------------------------------------------


def _of_each(given: argparse.Namespace, show: Callable[[Path], int]) -> int:
    """Do something with each file. One that can't be read keeps none of the others from being."""
    status = _OK
    for file in _files(given):
        try:
            with _readable(file):
                status = max(status, show(file))
        except WebChatError as error:
            _complain(str(error))
            status = _UNREADABLE
    return status


def _files(given: argparse.Namespace) -> list[Path]:
    if given.db is not None:
        return [Path(given.db)]
    data = Path(jupyter_data_dir())
    found = [*data.glob(f"{FOLDER[0]}/timeline-*.sqlite"), *data.joinpath(*FOLDER).glob("*.sqlite")]
    if not found:
        print(f"No conversations are kept in {data / FOLDER[0]}; --db names another file.")
    return sorted(found)


def _found(given: argparse.Namespace) -> list[Entity]:
    """The rows of the conversation that is named, from the one file that has it."""
    found: dict[Path, list[Entity]] = {}
    for file in _files(given):
        with _readable(file), snapshot(file) as db:
            if (rows := entities(db, given.conv_id)) is not None:
                found[file] = rows
    if not found:
        raise _Failed(f"There is no conversation {given.conv_id}. `list` names those that are kept.")
    if len(found) > 1:
        files = ", ".join(map(str, found))
        raise _Failed(f"More than one file has the conversation {given.conv_id}; name one with --db: {files}")
    return next(iter(found.values()))


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Damage as a sentence."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise WebChatError(f"{file} can't be read: {error}. `verify` says what is wrong with it.") from None


# -- what is shown -----------------------------------------------------------------------------------


def _line(each: Listed) -> str:
    open_runs = f" ({each.unfinished} unfinished)" if each.unfinished else ""
    return f"{_when(each.updated_at)}  {each.rows:>5}  {_plain(each.conv_id)}  {_cut(each.title)}{open_runs}"


def _said(row: Entity) -> str:
    """The state of a row and the beginning of its text."""
    props = row["props"]
    state = [str(props[name]) for name in ("role", "status", "name") if props.get(name)]
    texts = (props[name] for name in ("content", "prompt", "result", "message", "input") if props.get(name))
    text = next(texts, "" if state else props)
    return _cut(" ".join([*state, text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)]))


def _cut(text: str, most: int = _TEXT) -> str:
    line = _plain(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _plain(text: str, keep: str = "") -> str:
    """Without what would steer a terminal: texts are a model's, or a stranger's."""
    return "".join(each if each.isprintable() or each in keep else "�" for each in text)


def _when(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")


def _many(count: int, word: str, ending: str = "s") -> str:
    return f"{count:,} {word}{ending if count != 1 else ''}"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _complain(message: str) -> None:
    print(f"jupyter webchat timeline: {_plain(message)}", file=sys.stderr)


# -- the command line --------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "jupyter webchat timeline",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        made.add_argument("--db", metavar="FILE", help="this file only")
        made.set_defaults(command=command)
        return made

    add("list", _list, "the conversations: last change, number of rows, id, title")
    add("show", _show, "the rows of a conversation, a line each").add_argument("conv_id", metavar="CONV_ID")
    add("stats", _stats, "how much there is of everything")
    add("verify", _verify, "look for breaches of the store's rules, and name each")
    exporting = add("export", _export, "a conversation as Markdown, JSON or a notebook")
    exporting.add_argument("conv_id", metavar="CONV_ID")
    exporting.add_argument(
        "file", metavar="FILE", nargs="?", help=f"{', '.join(FORMATS)}; none: on the screen"
    )
    exporting.add_argument("--force", action="store_true", help="overwrite the file")
    pruning = add("prune", _prune, "delete conversations for good; the file must be in use by nobody")
    pruning.add_argument("--older-than", metavar="AGE", type=_age, help="unchanged for so long: 12h, 90d, 8w")
    pruning.add_argument(
        "--conv", metavar="CONV_ID", help="this one only, whether its runs have ended or not"
    )
    pruning.add_argument("--dry-run", action="store_true", help="say what would be deleted")
    return parser


def _age(text: str) -> int:
    """An age in milliseconds."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write 12h, 90d or 8w")
    return int(found[1]) * _MS[found[2]]
