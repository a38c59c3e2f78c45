"""Which rows a reader gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webchat_widget.timeline.entities import entity
from webchat_widget.timeline.pages import Page, page
from webchat_widget.typing import Entity


def entities(*positions: tuple[int, int]) -> list[Entity]:
    """Entities by createdSeq and version; their ids are the createdSeq."""
    return [
        entity({"id": str(made), "kind": "note", "createdSeq": made, "version": version, "props": {}})
        for made, version in positions
    ]


def ids(page: Page) -> list[int]:
    return [int(each["id"]) for each in page.entities]


# Made at 1 to 5; the first one changed last.
FIVE = entities((1, 9), (2, 6), (3, 7), (4, 4), (5, 8))


class TestAlone:
    def test_all_rows(self) -> None:
        assert page(FIVE, 9) == Page(FIVE, 9, False)

    def test_an_unknown_conversation_is_an_empty_page_of_version_0(self) -> None:
        assert page([], 0) == Page([], 0, False)

    def test_the_version_may_be_ahead_of_every_row(self) -> None:
        assert page(FIVE, 12).version == 12


class TestLimit:
    def test_the_newest_rows_in_order_and_that_there_are_more(self) -> None:
        assert ids(page(FIVE, 9, limit=2)) == [4, 5]
        assert page(FIVE, 9, limit=2).more

    def test_it_covers_every_change_up_to_the_version(self) -> None:
        assert page(FIVE, 9, limit=2).version == 9

    def test_as_many_as_there_are_is_all(self) -> None:
        assert page(FIVE, 9, limit=5) == Page(FIVE, 9, False)


class TestUnfinished:
    def test_a_run_and_what_is_open_of_it_wherever_they_are(self) -> None:
        rows = [
            ("ran", "run", {"status": "finished"}),
            ("runs", "run", {"status": "started"}),
            ("runs:user", "message", {"role": "user"}),
            ("said", "message", {"role": "assistant", "streaming": False}),
            ("calls", "tool_call", {"done": False}),
            ("called", "tool_call", {"done": True}),
            ("waits", "run", {"status": "queued"}),
            ("pauses", "debugger_pause", {"status": "paused"}),
            ("own", "weather", {"status": "started"}),
        ]
        timeline = [
            entity({"id": id, "kind": kind, "createdSeq": at, "version": at, "props": props})
            for at, (id, kind, props) in enumerate(rows, 1)
        ]
        found = page(timeline, 9, unfinished=True)
        assert [each["id"] for each in found.entities] == ["runs", "calls", "waits", "pauses"]
        assert (found.version, found.more) == (9, False)


class TestBefore:
    def test_the_page_before_a_row_does_not_hold_it(self) -> None:
        found = page(FIVE, 9, before=4, limit=2)
        assert ids(found) == [2, 3]
        assert found.more

    def test_the_first_page_says_that_nothing_is_before_it(self) -> None:
        found = page(FIVE, 9, before=3, limit=2)
        assert ids(found) == [1, 2]
        assert not found.more

    def test_without_a_limit_all_that_is_before(self) -> None:
        assert ids(page(FIVE, 9, before=4)) == [1, 2, 3]

    def test_before_the_first_is_nothing(self) -> None:
        assert page(FIVE, 9, before=1, limit=2) == Page([], 9, False)

    @given(st.sets(st.integers(1, 50)), st.integers(1, 7))
    def test_page_by_page_backwards_is_every_row_once(self, made: set[int], limit: int) -> None:
        everything = entities(*((each, each) for each in sorted(made)))
        found = page(everything, 50, limit=limit)
        seen = found.entities
        while found.more:
            found = page(everything, 50, before=seen[0]["createdSeq"], limit=limit)
            assert len(found.entities) <= limit
            seen = found.entities + seen
        assert seen == everything


class TestSince:
    def test_rows_that_changed_after_the_version_in_the_order_of_their_making(self) -> None:
        found = page(FIVE, 9, since=6)
        assert ids(found) == [1, 3, 5]
        assert (found.version, found.more) == (9, False)

    def test_nothing_changed(self) -> None:
        assert page(FIVE, 9, since=9) == Page([], 9, False)

    def test_since_0_is_all(self) -> None:
        assert page(FIVE, 9, since=0) == Page(FIVE, 9, False)

    def test_where_the_limit_cuts_the_lowest_versions_come_first(self) -> None:
        found = page(FIVE, 9, since=4, limit=2)
        assert ids(found) == [2, 3], "versions 6 and 7, in the order of their making"
        assert (found.version, found.more) == (7, True), "it covers no more than what it holds"

    def test_a_limit_that_cuts_nothing_covers_all(self) -> None:
        found = page(FIVE, 9, since=7, limit=2)
        assert ids(found) == [1, 5]
        assert (found.version, found.more) == (9, False)

    @given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40))), st.integers(0, 50), st.integers(1, 7))
    def test_going_on_with_the_returned_version_visits_every_change_once(
        self, changes: list[tuple[int, int]], since: int, limit: int
    ) -> None:
        """As in a conversation: no two rows were made, or changed last, by the same frame."""
        versions = {made + more: made for made, more in changes}
        rows = {made: version for version, made in versions.items()}
        everything = entities(*sorted(rows.items()))
        latest = max(rows.values(), default=0)
        seen: list[int] = []
        found = page(everything, latest, since=since, limit=limit)
        while True:
            assert len(found.entities) <= limit
            assert [e["createdSeq"] for e in found.entities] == sorted(
                e["createdSeq"] for e in found.entities
            )
            seen += sorted(e["version"] for e in found.entities)
            if not found.more:
                break
            assert found.version == seen[-1]
            found = page(everything, latest, since=found.version, limit=limit)
        assert found.version == latest
        assert seen == sorted(version for version in rows.values() if version > since)


def test_choosing_changes_nothing() -> None:
    before = list(FIVE)
    page(FIVE, 9, since=1, limit=1)
    page(FIVE, 9, before=4, limit=1)
    assert before == FIVE
