"""Servers and kernels take a conversation from each other, and are killed or stopped: one owner at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from webchat_widget.timeline.files import conversation_file
from webchat_widget.timeline.sqlite import connection, lock
from webchat_widget.timeline.sqlite.adoption import AdoptingStore
from webchat_widget.timeline.sqlite.connection import Database
from webchat_widget.timeline.sqlite.inspection import verify
from webchat_widget.timeline.sqlite.snapshot import copied

from .owner_process import CONV_ID, PROMISE, Host, Nursery
from .plants import planted

__all__ = ["HARNESS"]

_AT_ONCE = 6
_PATIENCE = 30.0
_NOTICED_SECONDS = 5.0
"""A dead owner is noticed within."""
_SLACK = 2
"""For a machine that does much else."""


class Broken(Exception):
    """What does not hold, in a sentence."""


class OwnersHarness:
    """Rounds, each with files of its own."""

    name = "owners"
    unit = "rounds"
    quick = 12
    long = 500
    plants: Mapping[str, int] = {"lock_ignored": 8, "death_not_noticed": 8, "name_not_looked_up": 16}

    async def run(self, n: int, seed: int, folder: Path, plant: str | None = None) -> list[str]:
        """Return what broke."""
        failures: list[str] = []
        cases = iter(range(n))
        slowest = 0.0

        async def work(nursery: Nursery) -> None:
            nonlocal slowest
            for case in cases:
                if plant and failures:
                    return
                name = f"{seed}:{case}"
                with_its_own = folder / str(case)
                with_its_own.mkdir()
                round = Round(name, with_its_own, nursery)
                try:
                    await round.run()
                except Exception as broken:
                    failures.append(f"round {name}: {broken!r}\n    " + "; ".join(round.steps))
                else:
                    shutil.rmtree(with_its_own)
                slowest = max(slowest, round.slowest)

        async with Nursery(plant) as nursery:
            await asyncio.gather(*(work(nursery) for _ in range(_AT_ONCE)))
        if not plant:
            print(f"owners: after a death, the file was taken within {slowest:.2f} s")
        return failures


class Round:
    """Steps that follow from a case's name alone, as far as processes let them."""

    def __init__(self, case: str, folder: Path, nursery: Nursery) -> None:
        self.steps: list[str] = []
        self.slowest = 0.0
        """Seconds that it took to take a file whose owner had been killed."""
        self._random = random.Random(case)
        self._folder = folder
        self._nursery = nursery
        self._file = folder / "timeline.sqlite"
        self._kernels_file = conversation_file(folder / "conversations", CONV_ID)
        self._hosts: dict[str, Host] = {}
        self._server: Host | None = None
        """Who has the servers' file."""
        self._kernel: Host | None = None
        """Who has the kernels' file."""
        self._moved = False
        """The conversation is the kernels' to open."""
        self._promised_until = 0.0
        self._died = False
        """The last owner was killed."""
        self._keys: dict[str, str | None] = {}
        """Prompts, and the runs as which they were accepted; None where nobody heard of it."""
        self._order: list[str] = []
        """Those that were accepted when they were sent first."""

    async def run(self) -> None:
        """All of it. Raises Broken."""
        try:
            await self._say()
            for _ in range(self._random.randint(6, 12)):
                step, _ = self._random.choices(steps := self._choices(), [weight for _, weight in steps])[0]
                await step()
            await self._come_to_an_end()
        finally:
            for host in self._hosts.values():
                host.signal(signal.SIGKILL)
            for host in self._hosts.values():
                await host.gone()

    def _choices(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        return [
            (self._say, 6),
            (self._say_again, 3),
            (self._hand_over, 5),
            (self._kill, 4),
            (self._kill_in_the_middle, 3),
            (self._end, 2),
            (self._stop, 2),
            (self._race, 2),
            (self._replace, 3),
        ]

    # -- steps ---------------------------------------------------------------------------------------

    async def _say(self) -> None:
        await self._send(await self._some_host(), self._new_key())

    async def _say_again(self) -> None:
        """As who had no answer, or did not believe it."""
        await self._send(await self._some_host(), self._random.choice(list(self._keys)))

    async def _hand_over(self) -> None:
        server = self._server
        if server is None or self._moved:
            return
        self._note(f"{server.name} hands it over")
        answer = await self._heard(server, "hand over")
        if answer.get("value") is not True:
            raise Broken(f"{server.name} does not hand it over: {answer}")
        self._moved = True
        self._promised_until = asyncio.get_running_loop().time() + PROMISE
        await self._send(await self._host(f"kernel {self._random.choice('12')}"), self._new_key())

    async def _kill(self) -> None:
        if self._hosts:
            self._note(f"KILL {(host := self._random.choice(list(self._hosts.values()))).name}")
            await self._bury(host)

    async def _kill_in_the_middle(self) -> None:
        """Of a prompt, or of a move: what became of it, nobody has heard."""
        owner = self._kernel if self._moved else self._server
        if owner is None:
            return
        move = not self._moved and self._random.random() < 0.5
        key = "" if move else self._new_key()
        asked = asyncio.create_task(owner.ask("hand over" if move else "say", key))
        await asyncio.sleep(self._random.random() * 0.02)
        self._note(f"KILL {owner.name} in the middle of {key or 'a move'}")
        owner.signal(signal.SIGKILL)
        answer = await asked
        if not move:
            self._keys[key] = answer and answer.get("value")
            if self._keys[key] is not None:
                self._order.append(key)
        await self._bury(owner)

    async def _end(self) -> None:
        if self._hosts:
            host = self._random.choice(list(self._hosts.values()))
            self._note(f"{host.name} ends")
            await self._heard(host, "end")
            await self._bury(host, killed=False)

    async def _stop(self) -> None:
        """An owner that stands still has not died."""
        owner = self._kernel if self._moved else self._server
        if owner is None:
            return
        await self._heard(owner, "settle")
        self._note(f"STOP {owner.name}")
        owner.signal(signal.SIGSTOP)
        kind, number = owner.name.split()
        await self._send(await self._host(f"{kind} {3 - int(number)}"), self._new_key())
        if self._random.random() < 0.3:
            self._note(f"KILL {owner.name}")
            await self._bury(owner)
        else:
            self._note(f"CONT {owner.name}")
            owner.signal(signal.SIGCONT)

    async def _race(self) -> None:
        """Two want a file at once that nobody has."""
        kind = "kernel" if self._moved else "server"
        if (self._kernel if self._moved else self._server) is not None:
            return
        hosts = [await self._host(f"{kind} {number}") for number in "12"]
        keys = [self._new_key() for _ in hosts]
        self._note(f"both {kind}s are sent {keys}")
        answers = [
            await each
            for each in [
                asyncio.create_task(self._heard(h, "say", k)) for h, k in zip(hosts, keys, strict=True)
            ]
        ]
        won = [host for host, answer in zip(hosts, answers, strict=True) if "value" in answer]
        if len(won) != 1:
            raise Broken(f"{len(won)} of two {kind}s have taken the file: {answers}")
        for host, key, answer in zip(hosts, keys, answers, strict=True):
            if host is won[0]:
                self._accepted(host, key, answer["value"])

    async def _replace(self) -> None:
        """A person puts a copy in the place of the file: what is stored from then on is stored there."""
        owner, file = (self._kernel, self._kernels_file) if self._moved else (self._server, self._file)
        if owner is None:
            return
        await self._heard(owner, "settle")
        self._note(f"the file of {owner.name} is replaced by a copy")
        backup = self._folder / f"backup {len(self.steps)}"
        backup.mkdir()
        copy = copied(file, backup)
        wal = copy.with_name(f"{copy.name}-wal")
        if wal.exists():
            wal.replace(file.with_name(f"{file.name}-wal"))
        copy.replace(file)
        key = self._new_key()
        answer = await self._heard(owner, "say", key)
        self._note(f"{key} to {owner.name}: {answer}")
        if "value" in answer:
            self._accepted(owner, key, answer["value"])

    # -- what is expected ----------------------------------------------------------------------------

    async def _send(self, host: Host, key: str) -> None:
        """A prompt to a host that may have the conversation, or may not."""
        free = asyncio.get_running_loop().time() > self._promised_until
        owner = self._owner_before(host)
        answer = await self._heard(host, "say", key)
        self._note(f"{key} to {host.name}: {answer.get('code', 'accepted')}")
        if host.name.startswith("server") and self._server is None:
            self._server = host
        if "value" in answer:
            if owner is not None:
                raise Broken(f"{host.name} has accepted {key}, and {owner.name} has the conversation")
            self._accepted(host, key, answer["value"])
            if self._died:
                self.slowest = max(self.slowest, answer["seconds"])
                self._died = False
                if answer["seconds"] > _NOTICED_SECONDS * _SLACK:
                    raise Broken(f"it took {answer['seconds']:.1f} s to take what nobody had any more")
        elif owner is None:
            if free or host.name.startswith("kernel"):
                raise Broken(f"{host.name} was refused, and nobody has the conversation: {answer}")
        elif answer["code"] not in ("conversation_held", "store_in_use"):
            raise Broken(f"{host.name} was refused because of {owner.name} by {answer}")
        elif free and f"process {owner.pid} on" not in answer["message"]:
            raise Broken(f"{host.name} was refused, and not told of {owner.name}, {owner.pid}: {answer}")

    def _owner_before(self, host: Host) -> Host | None:
        """Who keeps this host from having the conversation."""
        if host.name.startswith("kernel"):
            return None if self._kernel in (None, host) else self._kernel
        if self._server not in (None, host):
            return self._server
        return self._kernel

    def _accepted(self, host: Host, key: str, run_id: str) -> None:
        known = self._keys[key]
        if known is not None and known != run_id:
            raise Broken(f"{key} was accepted as {known}, and again as {run_id}")
        if known is None and key == list(self._keys)[-1]:
            self._order.append(key)
        self._keys[key] = run_id
        if host.name.startswith("kernel"):
            self._kernel = host
        else:
            self._server, self._moved = host, False

    async def _come_to_an_end(self) -> None:
        """Everybody ends somehow; what was accepted is there, once."""
        for host in list(self._hosts.values()):
            if self._random.random() < 0.5:
                await self._heard(host, "end")
            await self._bury(host)
        store = AdoptingStore(self._file, self._kernels_file.parent, promise=0)
        loaded = await store.load(CONV_ID)
        keys = {key: await store.key("", key) for key in self._keys}
        await store.close()
        assert loaded is not None
        there = [row["props"]["prompt"] for row in loaded.rows if row["kind"] == "run"]
        for key, run_id in self._keys.items():
            found = keys[key]
            if Counter(there)[key] > 1 or (run_id is not None and key not in there):
                raise Broken(f"{key} is there {Counter(there)[key]} times")
            if run_id is not None and (found is None or found.body["run_id"] != run_id):
                raise Broken(f"{key} was accepted as {run_id}, and is known as {found}")
        if (kept := [key for key in there if key in self._order]) != self._order:
            raise Broken(f"accepted were {self._order}, stored are {kept}")
        if self._kernels_file.exists():
            raise Broken("the kernels' file is still there")
        for breach in verify(self._file).breaches:
            raise Broken(f"the file breaks {breach.rule!r}: {breach.id}: {breach.sentence}")

    # -- parts ---------------------------------------------------------------------------------------

    def _new_key(self) -> str:
        key = f"p{len(self._keys)}"
        self._keys[key] = None
        return key

    async def _some_host(self) -> Host:
        """A kernel only while it is its turn: it asks the server before it opens a file."""
        kinds = ("server", "kernel", "kernel") if self._moved else ("server",)
        return await self._host(f"{self._random.choice(kinds)} {self._random.choice('12')}")

    async def _host(self, name: str) -> Host:
        if name not in self._hosts:
            self._hosts[name] = await self._nursery.host(name, self._folder)
        return self._hosts[name]

    async def _heard(self, host: Host, op: str, key: str = "") -> dict[str, Any]:
        try:
            async with asyncio.timeout(_PATIENCE):
                answer = await host.ask(op, key)
        except TimeoutError:
            raise Broken(f"not within {_PATIENCE:g} s: {host.name}, {op} {key}") from None
        if answer is None:
            raise Broken(f"{host.name} died of {op} {key}")
        return answer

    async def _bury(self, host: Host, *, killed: bool = True) -> None:
        host.signal(signal.SIGKILL)
        await host.gone()
        self._hosts.pop(host.name, None)
        if host is self._kernel:
            self._kernel, self._died = None, killed
        if host is self._server:
            self._server, self._died = None, killed

    def _note(self, step: str) -> None:
        self.steps.append(step)


HARNESS = OwnersHarness()


# -- plants, in the processes ------------------------------------------------------------------------


@contextlib.contextmanager
def lock_ignored() -> Any:
    """Neither our lock nor SQLite's keeps anybody out."""

    class Open(Database):
        def execute(self, sql: str, *args: Any) -> Any:
            return super().execute("SELECT 1" if "locking_mode" in sql else sql, *args)

    with planted(lock, "_locked", lambda file: None), planted(connection, "Database", Open):
        yield


def death_not_noticed() -> contextlib.AbstractContextManager[None]:
    """Whoever has made the file beside the database has it, dead or alive."""

    def locked(file: Path) -> int:
        try:
            return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise BlockingIOError from None

    return planted(lock, "_locked", locked)


def name_not_looked_up() -> contextlib.AbstractContextManager[None]:
    """What is stored goes to the file that was opened, whatever has its name by now."""
    return planted(Database, "check", lambda db: None)
