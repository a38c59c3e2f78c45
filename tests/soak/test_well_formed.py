"""What a harness takes for a request that a model would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from tests.soak.well_formed import fault_of

_USER, _SAID = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
_CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
_RESULT = {"role": "tool", "tool_call_id": "c", "content": "d"}


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([_USER], None),
        ([_USER, _SAID, _USER], None),
        ([_USER, _CALL, _RESULT, _SAID, _USER], None),
        ([_USER, _CALL, _RESULT, _USER], None),
        ([_USER, _USER], "has two of role user in a row"),
        ([_USER, _SAID, _SAID, _USER], "has two of role assistant in a row"),
        ([_USER, _CALL, _USER], "has no result of c"),
        ([_USER, _RESULT, _USER], "has a result without a call: c"),
        ([_USER, _SAID], "ends with assistant"),
    ],
)
def test_a_malformed_request_is_recognised(messages: list[dict[str, Any]], fault: str | None) -> None:
    assert fault_of({"messages": messages}) == fault
