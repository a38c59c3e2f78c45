"""Runs under profiles: each prompt keeps its own, and what changes meanwhile changes no other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Chat, Page, Start
from webchat_widget import Profile, ScriptedEngine, tool
from webchat_widget.errors import Conflict, NotAllowed, NotFound
from webchat_widget.events import CallRequest
from webchat_widget.profiles import Profiles
from webchat_widget.requests import ChatRequest, Overrides
from webchat_widget.timeline.sqlite import SQLiteStore
from webchat_widget.tools.function import function_tool
from webchat_widget.tools.registry import ToolRegistry
from webchat_widget.turns import Turn

SQL = Profile(slug="sql", system_prompt="Answer in SQL.", model="m-sql", tools=["look"])
POEM = Profile(slug="poem", system_prompt="Answer in verse.", middlewares=["history_limit"])


def look() -> str:
    """Look."""
    return "seen"


async def ask(chat: Chat, prompt: str, profile: str = "default", conv_id: str = "c", **more: Any) -> str:
    """Send a prompt under a profile; the run's id."""
    reply = await chat.service.chat(ChatRequest(prompt=prompt, profile=profile, conv_id=conv_id, **more))
    return str(reply.body["run_id"])


async def all_ended(chat: Chat) -> None:
    async with asyncio.timeout(10):
        while chat.service.busy:
            await asyncio.sleep(0.005)


def began_with(turn: Turn) -> tuple[str, str | None, list[str]]:
    """What the model was told first, which one it is, and the names of its tools."""
    system = "".join(message.content for message in turn.messages if message.role == "system")
    return system, turn.model, [tool.name for tool in turn.tools]


async def test_prompts_alternate(start: Start) -> None:
    engine = ScriptedEngine("1", "2", "3", "4")
    chat = await start(engine, profiles=(SQL, POEM), tools=(look,))
    for profile in ("sql", "poem", "sql", "default"):
        await ask(chat, "hi", profile)
        await all_ended(chat)
    sql, poem = ("Answer in SQL.", "m-sql", ["look"]), ("Answer in verse.", None, [])
    assert [began_with(turn) for turn in engine.turns] == [sql, poem, sql, ("", None, ["look"])]
    assert len(engine.turns[-1].messages) == 7, "they share the conversation's memory"


async def test_a_prompt_that_waits_keeps_its_profile(start: Start) -> None:
    go = asyncio.Event()
    engine = ScriptedEngine([go, "1"], "2", "3")
    chat = await start(engine, profiles=(SQL, POEM))
    for profile in ("poem", "sql", "default"):
        await ask(chat, "hi", profile)
    go.set()
    await all_ended(chat)
    assert [began_with(turn)[0] for turn in engine.turns] == ["Answer in verse.", "Answer in SQL.", ""]


async def test_its_configuration_is_that_of_when_it_starts(start: Start) -> None:
    go = asyncio.Event()
    engine = ScriptedEngine([go, "1"], "2")
    chat = await start(engine, profiles=(SQL,))
    await ask(chat, "hi", "sql")
    await ask(chat, "hi", "sql")
    async with asyncio.timeout(10):
        while not engine.turns:
            await asyncio.sleep(0.005)
    chat.service._env.profiles = Profiles(Profile(slug="sql", system_prompt="Answer in C."))
    go.set()
    await all_ended(chat)
    assert [began_with(turn)[0] for turn in engine.turns] == ["Answer in SQL.", "Answer in C."]


async def test_one_that_is_gone_by_then_fails_its_run_and_no_other(start: Start) -> None:
    go = asyncio.Event()
    engine = ScriptedEngine([go, "1"], "3")
    chat = await start(engine, profiles=(SQL,))
    await ask(chat, "one")
    gone = await ask(chat, "two", "sql")
    await ask(chat, "three")
    chat.service._env.profiles = Profiles()
    go.set()
    await all_ended(chat)
    assert [turn.messages[-1].content for turn in engine.turns] == ["one", "three"]
    rows = {row["id"]: row["props"] for row in await chat.rows()}
    assert (rows[gone]["status"], rows[gone]["profile"]) == ("failed", "sql")
    error = rows[f"{gone}:error"]
    assert error["code"] == "unknown_profile"
    assert error["message"].startswith("There is no profile 'sql'. Profiles: default.")


async def test_a_prompt_that_waits_keeps_it_over_a_restart(start: Start, tmp_path: Path) -> None:
    chat = await start(ScriptedEngine(["half ", asyncio.Event()]), profiles=(SQL,))
    page = await chat.join()
    await ask(chat, "one")
    await ask(chat, "two", "sql", overrides=Overrides(model="m-other"))
    await page.until("llm.delta")
    await chat.service.close()
    engine = ScriptedEngine("2")
    again = await start(engine, profiles=(SQL,), store=SQLiteStore(tmp_path / "timeline.sqlite"))
    await again.service.start()
    await all_ended(again)
    assert [began_with(turn)[:2] for turn in engine.turns] == [("Answer in SQL.", "m-other")]


async def test_readers_change_nothing(start: Start) -> None:
    go = asyncio.Event()
    engine = ScriptedEngine([go, "1"], "2")
    chat = await start(engine, profiles=(SQL, POEM))
    await ask(chat, "hi", "sql")
    reader = Page()
    await chat.service.join("c", "poem", reader, append=True)
    await reader.until("ws.hello")
    assert reader.of("ws.hello")[0]["data"]["profile"] == "poem"
    go.set()
    await all_ended(chat)
    await ask(chat, "hi")
    await all_ended(chat)
    assert [began_with(turn)[0] for turn in engine.turns] == ["Answer in SQL.", ""]
    with pytest.raises(NotFound):
        await chat.service.join("c", "nobody", Page(), append=True)


async def test_rows_and_frames_say_which(start: Start) -> None:
    go = asyncio.Event()
    chat = await start(ScriptedEngine([go, "1"], "2"), profiles=(SQL,))
    reader = await chat.join()
    first, second = await ask(chat, "hi"), await ask(chat, "hi", "sql")
    go.set()
    await all_ended(chat)
    await reader.until("run.finished", 2)
    (queued,) = reader.of("run.queued")
    assert queued["data"]["profile"] == "sql"
    assert ["profile" in frame["data"] for frame in reader.of("run.started")] == [False, True]
    rows = {row["id"]: row["props"] for row in await chat.rows()}
    assert "profile" not in rows[first]
    assert rows[second]["profile"] == "sql"


class TestAConversationsOwn:
    @staticmethod
    @tool(read_only=True)
    def mine() -> str:
        """Mine."""
        return "mine"

    @staticmethod
    @tool(read_only=True)
    def yours() -> str:
        """Yours."""
        return "yours"

    async def test_two_of_one_conversation(self, start: Start) -> None:
        engine = ScriptedEngine("1", "2", "3", "4")
        chat = await start(engine, tools=(look,))
        own = (
            Profile(slug="a", system_prompt="A.", model="m-a", tools=["mine", "look"]),
            Profile(slug="b", system_prompt="B.", tools=[]),
            Profile(slug="all"),
        )
        tools = ToolRegistry(map(function_tool, (self.mine, self.yours)))
        chat.service.equip("c", tools, {}, own)
        for profile in ("a", "b", "a", "all"):
            await ask(chat, "hi", profile)
            await all_ended(chat)
        a = ("A.", "m-a", ["mine", "look"])
        assert [began_with(turn) for turn in engine.turns[:3]] == [a, ("B.", None, []), a]
        assert set(began_with(engine.turns[3])[2]) == {"mine", "yours", "look"}

    async def test_no_other_conversation_has_it(self, start: Start) -> None:
        chat = await start()
        chat.service.equip("c", ToolRegistry(), {}, [Profile(slug="mine", display_name="Mine")])
        assert chat.service.profiles("c") == [
            {"slug": "default", "display_name": "Default"},
            {"slug": "mine", "display_name": "Mine"},
        ]
        assert [each["slug"] for each in chat.service.profiles("d")] == ["default"]
        assert [each["slug"] for each in chat.service.profiles()] == ["default"]
        with pytest.raises(NotFound, match=r"There is no profile 'mine'.*run the cell of its chat again\."):
            await ask(chat, "hi", "mine", conv_id="d")
        with pytest.raises(NotFound, match=r"There is no profile 'sql'\. Profiles: default, mine\.$"):
            await ask(chat, "hi", "sql")

    async def test_a_prompt_that_waits_keeps_it(self, start: Start) -> None:
        go = asyncio.Event()
        engine = ScriptedEngine([go, "1"], "2")
        chat = await start(engine)
        chat.service.equip("c", ToolRegistry(), {}, [Profile(slug="mine", system_prompt="A.")])
        await ask(chat, "one")
        await ask(chat, "two", "mine")
        chat.service.equip("c", ToolRegistry(), {}, [Profile(slug="mine", system_prompt="B.")])
        go.set()
        await all_ended(chat)
        assert began_with(engine.turns[1])[0] == "A."

    @pytest.mark.parametrize(
        ("models", "status", "error"),
        [
            ("*", "finished", None),
            ("small", "failed", "The model 'm-a' is not one of those that c.WebChat.models allows."),
        ],
    )
    async def test_one_that_waits_over_a_restart_too(
        self, start: Start, tmp_path: Path, models: str, status: str, error: str | None
    ) -> None:
        """Before its notebook has brought it again, and as far as the host then allows."""
        chat = await start(ScriptedEngine(["half ", asyncio.Event()]))
        page = await chat.join()
        tools = ToolRegistry([function_tool(self.mine)])
        own = Profile(
            slug="mine", system_prompt="A.", model="m-a", tools=["mine"], middlewares=["history_limit"]
        )
        chat.service.equip("c", tools, {}, [own])
        await ask(chat, "one")
        waits = await ask(chat, "two", "mine", overrides=Overrides(tools=("mine",)))
        await page.until("llm.delta")
        await chat.service.close()
        engine = ScriptedEngine("2")
        again = await start(engine, store=SQLiteStore(tmp_path / "timeline.sqlite"))
        again.service._env.profiles = Profiles(models=[models])
        await again.service.start()
        await all_ended(again)
        (run,) = [row["props"] for row in await again.rows() if row["id"] == waits]
        assert (run["status"], run.get("error"), run["profile"]) == (status, error, "mine")
        assert [began_with(turn) for turn in engine.turns] == [("A.", "m-a", [])][: len(engine.turns)]
        assert len(engine.turns) == (status == "finished")

    async def test_those_of_a_later_call_replace_them(self, start: Start) -> None:
        chat = await start(profiles=(SQL,))
        chat.service.equip("c", ToolRegistry(), {}, [Profile(slug="mine")])
        with pytest.raises(NotAllowed):
            chat.service.equip("c", ToolRegistry(), {}, [Profile(slug="sql")])
        assert chat.service.has_profile("mine", "c"), "what was refused changed nothing"
        chat.service.equip("c", ToolRegistry(), {}, [Profile(slug="yours")])
        assert not chat.service.has_profile("mine", "c")


async def test_settings_do_not_pass_a_profile_s_lock(start: Start) -> None:
    locked = Profile(slug="locked", system_prompt="House rules.", allow_overrides=["model"])
    engine = ScriptedEngine("1", "2")
    chat = await start(engine, profiles=(locked,))
    await chat.service.configure("c", Overrides(system_prompt="Obey me.", model="m"))
    for profile in ("locked", "default"):
        await ask(chat, "hi", profile)
        await all_ended(chat)
    assert [began_with(turn)[:2] for turn in engine.turns] == [("House rules.", "m"), ("Obey me.", "m")]
    with pytest.raises(NotAllowed):
        await ask(chat, "hi", "locked", overrides=Overrides(system_prompt="Obey me."))


async def test_what_a_host_allows_no_more_does_not_hold(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    go = asyncio.Event()
    engine = ScriptedEngine([go, "1"], "2")
    chat = await start(engine)
    await chat.service.configure("c", Overrides(model="large", system_prompt="Be brief."))
    await ask(chat, "one")
    chosen = await ask(chat, "two", overrides=Overrides(model="larger"))
    await ask(chat, "three")
    async with asyncio.timeout(10):
        while not engine.turns:
            await asyncio.sleep(0.005)
    chat.service._env.profiles = Profiles(models=["small"])
    go.set()
    await all_ended(chat)
    assert [began_with(turn)[:2] for turn in engine.turns] == [("Be brief.", "large"), ("Be brief.", None)]
    rows = {row["id"]: row["props"] for row in await chat.rows()}
    why = "The model 'larger' is not one of those that c.WebChat.models allows."
    assert (rows[chosen]["status"], rows[chosen]["error"]) == ("failed", why)
    assert "a setting of conversation c is left out: The model 'large' is not one of those" in caplog.text


class TestAPause:
    """Of a profile whose middleware is step mode."""

    STEP = Profile(slug="step", middlewares=[{"name": "step", "config": {"phases": ["after_inference"]}}])

    @staticmethod
    async def paused(start: Start) -> tuple[Chat, Page, str]:
        """A chat whose run is paused before its tool, its reader, and the run's id."""
        chat = await start(ScriptedEngine([CallRequest("1", "look", "{}")], "1"), profiles=(TestAPause.STEP,))
        chat.service.equip("c", ToolRegistry([function_tool(tool(read_only=True)(look))]), {})
        reader = await chat.join()
        run = await ask(chat, "hi", "step")
        await reader.until("debugger.pause")
        return chat, reader, run

    async def test_it_goes_on_when_a_person_says_so(self, start: Start) -> None:
        chat, reader, run = await self.paused(start)
        (pause,) = reader.of("debugger.pause")
        assert not reader.of("tool.start")
        for _ in range(2):
            await chat.service.resume("c", pause["id"])
        await all_ended(chat)
        rows = {row["id"]: row["props"] for row in await chat.rows()}
        assert (rows[run]["status"], rows[pause["id"]]["status"]) == ("finished", "continued")
        await chat.service.resume("c", pause["id"])

    async def test_one_that_never_was(self, start: Start) -> None:
        chat = await start(ScriptedEngine("1"))
        run = await ask(chat, "hi")
        await all_ended(chat)
        for conv_id, pause_id in (("d", "x"), ("c", "x"), ("c", run)):
            with pytest.raises(NotFound) as refused:
                await chat.service.resume(conv_id, pause_id)
            assert refused.value.code == "unknown_pause"

    async def test_one_whose_run_was_stopped(self, start: Start) -> None:
        chat, reader, _ = await self.paused(start)
        await chat.service.stop("c", None)
        with pytest.raises(Conflict) as refused:
            await chat.service.resume("c", reader.of("debugger.pause")[0]["id"])
        assert refused.value.code == "run_ended"
