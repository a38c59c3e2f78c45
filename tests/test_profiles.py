"""Profiles as values: what may be said of one, what a caller may choose, and what installed packages add."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from webchat_widget import Middleware, Profile
from webchat_widget.errors import NotAllowed, NotFound
from webchat_widget.middlewares.builtin import BUILTIN
from webchat_widget.middlewares.system_prompt import SystemPrompt
from webchat_widget.plugins import installed_middlewares, installed_profiles
from webchat_widget.profiles import DEFAULT, Profiles, profile_of
from webchat_widget.requests import Overrides

EACH = {
    "system_prompt": Overrides(system_prompt="Be brief."),
    "model": Overrides(model="gpt-9"),
    "tools": Overrides(tools=()),
    "middlewares": Overrides(middlewares=("system_prompt",)),
}


class TestWhatMayBeSaid:
    @pytest.mark.parametrize("slug", ["a", "7", "sql-expert_2", "x" * 64])
    def test_slugs(self, slug: str) -> None:
        assert Profile(slug=slug).described() == {"slug": slug, "display_name": slug}

    @pytest.mark.parametrize("slug", ["", "Sql", "-a", "_a", "a b", "a/b", "ä", "x" * 65, "a\n", None])
    def test_no_slugs(self, slug: Any) -> None:
        with pytest.raises(ValueError, match="A profile's slug has"):
            Profile(slug=slug)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("sql", "A profile is a Profile, or a dict with a slug; 'sql' is none"),
            ({}, "missing required field `slug`"),
            ({"slug": "Sql"}, "A profile's slug has"),
            ({"slug": "sql", "prompt": "x"}, r"The profile 'sql' is malformed.*`prompt`"),
            ({"slug": "sql", "tools": "calculate"}, r"Expected `array \| null`, got `str` - at `\$.tools`"),
            ({"slug": "sql", "system_prompt": 7}, r"Expected `str`, got `int` - at `\$.system_prompt`"),
            ({"slug": "sql", "allow_overrides": ["modle"]}, "names of system_prompt, model, tools, middle"),
            (Profile(slug="sql", model=7), r"Expected `str \| null`, got `int` - at `\$.model`"),  # type: ignore[arg-type]
            (Profile(slug="sql", middlewares="step"), "Expected `array`, got `str`"),
        ],
    )
    def test_malformed(self, given: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            profile_of(given)

    def test_middlewares_become_json(self) -> None:
        given = Profile(slug="a", middlewares=["step", SystemPrompt(text="Hi.")])
        spec = {"name": "system_prompt", "config": {"text": "Hi.", "where": "replace"}}
        assert list(profile_of(given).middlewares) == ["step", spec]

    def test_a_middleware_that_can_t(self) -> None:
        class Calls(Middleware, frozen=True):
            name: ClassVar[str] = "calls"
            what: Any = None

        with pytest.raises(ValueError, match=r"The profile 'a' is malformed.*object"):
            profile_of(Profile(slug="a", middlewares=[Calls(object())]))


class TestWhatACallerMayChoose:
    @pytest.mark.parametrize("name", EACH)
    @pytest.mark.parametrize("allowed", [True, list(EACH), False, []])
    def test_all_or_nothing(self, name: str, allowed: bool | list[str]) -> None:
        profiles = Profiles(Profile(slug="sql", allow_overrides=allowed))
        if allowed:
            return profiles.check("sql", EACH[name])
        with pytest.raises(NotAllowed, match=f"The profile sql does not let you choose {name}") as refused:
            profiles.check("sql", EACH[name])
        assert (refused.value.status, refused.value.field) == (422, f"overrides.{name}")

    @pytest.mark.parametrize("name", EACH)
    def test_some(self, name: str) -> None:
        profiles = Profiles(Profile(slug="sql", allow_overrides=[name]))
        for other, overrides in EACH.items():
            if other == name:
                profiles.check("sql", overrides)
            else:
                with pytest.raises(NotAllowed):
                    profiles.check("sql", overrides)

    @pytest.mark.parametrize(
        ("overrides", "field"),
        [
            (Overrides(model="other"), "overrides.model"),
            (Overrides(tools=("calculate", "shell")), "overrides.tools"),
            (Overrides(middlewares=("step", "nothing")), "overrides.middlewares[1].name"),
            (
                Overrides(middlewares=({"name": "system_prompt", "config": {"text": 7}},)),
                "overrides.middlewares[0].config",
            ),
            (Overrides(middlewares=({"name": "step", "more": 1},)), "overrides.middlewares[0]"),
        ],
    )
    def test_what_there_is_not(self, overrides: Overrides, field: str) -> None:
        profiles = Profiles(Profile(slug=DEFAULT, tools=("calculate",)), models=["gpt-*"])
        profiles.check(DEFAULT, Overrides(model="gpt-9", tools=("calculate", "mine")), own_tools=("mine",))
        with pytest.raises(NotAllowed) as refused:
            profiles.check(DEFAULT, overrides)
        assert refused.value.field == field

    def test_an_unknown_profile(self) -> None:
        with pytest.raises(
            NotFound, match=r"There is no profile 'sql'\. Profiles: default, data\."
        ) as refused:
            Profiles(Profile(slug="data")).check("sql", Overrides())
        assert refused.value.code == "unknown_profile"

    @pytest.mark.parametrize("whose", ["the host's", "the conversation's own"])
    def test_a_prompt_goes_before_the_profile_and_that_before_the_settings(self, whose: str) -> None:
        sql = Profile(slug="sql", system_prompt="profile", model="p", middlewares=["step"])
        profiles = Profiles(sql) if whose == "the host's" else Profiles().with_own([sql])
        settings = Overrides(system_prompt="settings", model="s", middlewares=("logging",))
        chosen = profiles.choose("sql", Overrides(system_prompt="prompt"), settings)
        assert (chosen.system_prompt, chosen.model) == ("prompt", "p")
        assert [type(each).name for each in chosen.middlewares] == ["step"]
        assert profiles.choose("sql", Overrides(system_prompt=""), settings).system_prompt == ""
        assert profiles.choose("sql", Overrides(middlewares=()), settings).middlewares == ()

    @pytest.mark.parametrize("whose", ["the host's", "the conversation's own"])
    def test_settings_say_what_the_profile_does_not(self, whose: str) -> None:
        sql = Profile(slug="sql", model="p")
        default = Profile(slug=DEFAULT, system_prompt="house", middlewares=["step"])
        profiles = Profiles(default, sql) if whose == "the host's" else Profiles(default).with_own([sql])
        settings = Overrides(system_prompt="settings", model="s", middlewares=("logging",), tools=())
        chosen = profiles.choose("sql", Overrides(), settings)
        assert (chosen.system_prompt, chosen.model, chosen.tools) == ("settings", "p", ())
        assert [type(each).name for each in chosen.middlewares] == ["logging"]

    def test_settings_go_before_the_default_one(self) -> None:
        default = Profile(slug=DEFAULT, system_prompt="house", model="m", tools=["calculate"])
        chosen = Profiles(default).choose(DEFAULT, Overrides(), Overrides(model="s", tools=()))
        assert (chosen.system_prompt, chosen.model, chosen.tools) == ("house", "s", ())

    def test_settings_may_leave_out_the_tools_of_a_host_s_profile(self) -> None:
        profiles = Profiles(Profile(slug="sql", tools=["calculate"]))
        assert profiles.choose("sql", Overrides()).tools is None
        assert profiles.choose("sql", Overrides(), Overrides(tools=())).tools == ()

    def test_settings_go_as_far_as_the_profile_lets_them(self) -> None:
        profiles = Profiles(Profile(slug="sql", allow_overrides=["model"]))
        chosen = profiles.choose("sql", Overrides(), Overrides(system_prompt="settings", model="s", tools=()))
        assert (chosen.system_prompt, chosen.model, chosen.tools) == ("", "s", None)


class TestWhatWasAllowedOnce:
    """Settings, and prompts that wait, may be older than what the host allows."""

    PLAN: ClassVar[Any] = {"name": "planning", "config": {"model": "large"}}

    @pytest.mark.parametrize(
        ("settings", "why"),
        [
            (Overrides(model="large"), "The model 'large' is not one of those that c.WebChat.models allows."),
            (
                Overrides(middlewares=("step", PLAN)),
                "The model 'large' is not one of those that c.WebChat.models allows.",
            ),
            (Overrides(middlewares=("of-a-notebook",)), "There is no middleware 'of-a-notebook'."),
        ],
    )
    def test_settings_are_left_out(self, settings: Overrides, why: str) -> None:
        profiles = Profiles(Profile(slug=DEFAULT, model="small", middlewares=["logging"]), models=["small*"])
        chosen = profiles.choose(DEFAULT, Overrides(), replace(settings, system_prompt="Be brief."))
        assert (chosen.system_prompt, chosen.model) == ("Be brief.", "small")
        assert [type(each).name for each in chosen.middlewares] == ["logging"]
        (said,) = chosen.refused
        assert said.startswith(why)

    def test_a_lock_needs_no_reason(self) -> None:
        profiles = Profiles(Profile(slug=DEFAULT, allow_overrides=False), models=["small"])
        chosen = profiles.choose(DEFAULT, Overrides(), Overrides(model="large"))
        assert (chosen.model, chosen.refused) == (None, ())

    def test_tools_are_those_that_there_are(self) -> None:
        chosen = Profiles().choose(DEFAULT, Overrides(), Overrides(tools=("of-a-notebook",)))
        assert (chosen.tools, chosen.refused) == (("of-a-notebook",), ())

    @pytest.mark.parametrize(
        ("overrides", "why"),
        [
            (Overrides(model="large"), "The model 'large' is not one"),
            (Overrides(middlewares=(PLAN,)), "The model 'large' is not one"),
            (Overrides(system_prompt="Hi."), "The profile sql does not let you choose system_prompt"),
        ],
    )
    def test_a_prompt_is_refused(self, overrides: Overrides, why: str) -> None:
        sql = Profile(slug="sql", allow_overrides=["model", "middlewares"])
        with pytest.raises(NotAllowed, match=why):
            Profiles(sql, models=["small"]).choose("sql", overrides)

    @pytest.mark.parametrize(
        ("default", "why"),
        [
            (Profile(slug=DEFAULT), "The model 'large' is not one"),
            (Profile(slug=DEFAULT, allow_overrides=False), "The profile default does not let you choose mod"),
        ],
    )
    def test_a_profile_of_the_conversation_s_own_is_refused(self, default: Profile, why: str) -> None:
        profiles = Profiles(default, models=["small"]).with_own([Profile(slug="mine", model="large")])
        with pytest.raises(NotAllowed, match=why):
            profiles.choose("mine", Overrides())


class TestAConversationsOwn:
    """They are names for overrides of the default one."""

    def test_what_they_do_not_say_is_as_in_the_default_one(self) -> None:
        default = Profile(slug=DEFAULT, system_prompt="house", model="m", tools=("calculate",))
        profiles = Profiles(default).with_own([Profile(slug="mine", middlewares=["step"])])
        chosen = profiles.choose("mine", Overrides())
        assert (chosen.system_prompt, chosen.model, chosen.tools) == ("house", "m", None)
        assert chosen.profile.tools == ("calculate",)
        assert [type(each).name for each in chosen.middlewares] == ["step"]

    @pytest.mark.parametrize("tools", [[], ["mine"]])
    def test_their_tools_are_all(self, tools: list[str]) -> None:
        profiles = Profiles().with_own([Profile(slug="mine", tools=tools)])
        assert list(profiles.choose("mine", Overrides()).tools or ()) == tools
        assert list(profiles.choose("mine", Overrides(), Overrides(tools=("y",))).tools or ()) == tools
        assert profiles.choose("mine", Overrides(tools=("x",))).tools == ("x",)

    def test_both_say_what_may_be_chosen(self) -> None:
        default = Profile(slug=DEFAULT, allow_overrides=["model", "tools"])
        profiles = Profiles(default).with_own(
            [Profile(slug="mine", allow_overrides=["model", "middlewares"])]
        )
        profiles.check("mine", EACH["model"])
        for name in ("system_prompt", "tools", "middlewares"):
            with pytest.raises(NotAllowed):
                profiles.check("mine", EACH[name])

    def test_they_are_listed_behind_the_host_s(self) -> None:
        hosts = Profiles(Profile(slug="sql"))
        both = hosts.with_own([Profile(slug="mine", display_name="Mine")])
        assert [each.described()["display_name"] for each in both] == ["Default", "sql", "Mine"]
        assert ("mine" in both, "mine" in hosts, "sql" in both) == (True, False, True)

    @pytest.mark.parametrize(
        ("own", "field"),
        [
            (["sql"], "profiles[0].slug"),
            ([DEFAULT], "profiles[0].slug"),
            (["a", "a"], "profiles[1].slug"),
            ([{"slug": "a"}, {"slug": "b", "model": "other"}], "profiles[1].model"),
            ([{"slug": "a", "tools": ["shell"]}], "profiles[0].tools"),
            ([{"slug": "a", "middlewares": ["nothing"]}], "profiles[0].middlewares[0].name"),
            ([f"p{number}" for number in range(65)], "profiles"),
        ],
    )
    def test_refused(self, own: list[Any], field: str) -> None:
        hosts = Profiles(Profile(slug="sql"), models=["gpt-*"])
        profiles = [profile_of({"slug": each} if isinstance(each, str) else each) for each in own]
        with pytest.raises(NotAllowed) as refused:
            hosts.check_own(profiles, ("mine",))
        assert refused.value.field == field
        hosts.check_own([Profile(slug="mine", tools=["mine"], model="gpt-1")], ("mine",))

    @pytest.mark.parametrize("name", EACH)
    def test_what_the_default_one_forbids(self, name: str) -> None:
        hosts = Profiles(Profile(slug=DEFAULT, allow_overrides=False))
        hosts.check_own([Profile(slug="mine", display_name="Mine")])
        said: dict[str, Any] = {
            "system_prompt": "Be brief.",
            "model": "gpt-9",
            "tools": [],
            "middlewares": ["system_prompt"],
        }
        with pytest.raises(NotAllowed) as refused:
            hosts.check_own([Profile(slug="mine", **{name: said[name]})])
        assert refused.value.field == f"profiles[0].{name}"


Install = Callable[[str, str], None]

LOUD = """
from typing import ClassVar
from webchat_widget import Middleware, Profile

class Loud(Middleware, frozen=True):
    "Shouts."
    name: ClassVar[str] = "loud"
    times: int = 1

class Nameless(Middleware, frozen=True):
    pass

class Step(Middleware, frozen=True):
    name: ClassVar[str] = "step"

SQL = Profile(slug="sql", middlewares=[Loud(times=2)])
def several():
    return [{"slug": "data", "tools": ["calculate"]}, SQL]
def broken():
    raise LookupError("no file")
UNKNOWN = Profile(slug="unknown", middlewares=["nothing"])
TOOLS = Profile(slug="tools", tools=["shell"])
DEFAULT = Profile(slug="default")
DATA = Profile(slug="data", display_name="First")
NUMBER = 7
"""


class TestInstalledPackages:
    @pytest.fixture
    def install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
        """Install a package: its module, and its entry points."""

        def install(name: str, points: str) -> None:
            (tmp_path / f"{name}.py").write_text(LOUD)
            info = tmp_path / f"{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(dedent(points))
            monkeypatch.syspath_prepend(tmp_path)

        return install

    def test_what_they_add(self, install: Install) -> None:
        points = """
            [webchat_widget.middlewares]
            loud = adds:Loud
            [webchat_widget.profiles]
            all = adds:several
        """
        install("adds", points)
        log = logging.getLogger("test")
        kinds = installed_middlewares(log)
        assert [kind.name for kind in kinds] == ["loud"]
        data, sql = installed_profiles(log, kinds.over(BUILTIN), ("calculate",))
        assert (sql.slug, data.slug) == ("sql", "data")
        (loud,) = Profiles(sql, middlewares=kinds).choose("sql", Overrides()).middlewares
        assert loud.spec() == {"name": "loud", "config": {"times": 2}}

    @pytest.mark.parametrize(
        ("group", "value", "said"),
        [
            ("middlewares", "wrong:Nothing", "has no attribute 'Nothing'"),
            ("middlewares", "nowhere:Loud", "No module named 'nowhere'"),
            ("middlewares", "wrong:NUMBER", "7 is no subclass of webchat_widget.Middleware"),
            ("middlewares", "wrong:Nameless", "the middleware Nameless needs a name"),
            ("middlewares", "wrong:Step", "there is a middleware step already"),
            ("profiles", "wrong:broken", "no file"),
            ("profiles", "wrong:NUMBER", "A profile is a Profile, or a dict with a slug; '7' is none"),
            ("profiles", "wrong:UNKNOWN", "There is no middleware 'nothing'"),
            ("profiles", "wrong:TOOLS", "The profile tools has an unknown tool 'shell'. Tools: calculate"),
            ("profiles", "wrong:DEFAULT", "there is a profile default already"),
        ],
    )
    def test_what_is_wrong_is_logged_and_left_out(
        self, install: Install, caplog: pytest.LogCaptureFixture, group: str, value: str, said: str
    ) -> None:
        points = {"middlewares": "good = wrong:Loud", "profiles": "good = wrong:several"}
        points[group] += f"\nbad = {value}"
        install("wrong", "\n".join(f"[webchat_widget.{name}]\n{of}" for name, of in points.items()))
        log = logging.getLogger("test")
        found = installed_profiles(log, installed_middlewares(log).over(BUILTIN), ("calculate",))
        assert [profile.slug for profile in found] == ["data", "sql"]
        (line,) = caplog.messages
        assert line.startswith(f"webchat: the entry point bad = {value} (webchat_widget.{group}, of wrong)")
        assert said in line

    def test_the_first_of_a_slug_counts(self, install: Install, caplog: pytest.LogCaptureFixture) -> None:
        install("twice", "[webchat_widget.profiles]\none = twice:DATA\ntwo = twice:several\n")
        found = installed_profiles(logging.getLogger("test"), BUILTIN, ("calculate",))
        assert [profile.described()["display_name"] for profile in found] == ["First"]
        assert "two = twice:several" in caplog.text
        assert "there is a profile data already" in caplog.text
