"""HTTP bodies: the golden file that the page's client is held to as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

GOLDEN = json.loads((Path(__file__).parents[1] / "contract" / "http.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", GOLDEN["accepted"], ids=lambda case: case["name"])
def test_accepted(client: httpx.Client, case: dict[str, Any]) -> None:
    reply = client.request(case["method"], case["path"], json=case["body"])
    assert reply.status_code == case["status"], reply.text
    assert set(case["reply"]) <= set(reply.json())
    if "outcome" in case:
        assert reply.json()["status"] == case["outcome"]


@pytest.mark.parametrize("case", GOLDEN["refused"], ids=lambda case: case["name"])
def test_refused(client: httpx.Client, case: dict[str, Any]) -> None:
    content = case["raw"] if "raw" in case else json.dumps(case["body"]) if "body" in case else None
    headers = {"Content-Type": case.get("contentType", "application/json"), **case.get("headers", {})}
    reply = client.request(case["method"], case["path"], content=content, headers=headers)
    assert reply.status_code == case["status"], reply.text
    body = reply.json()
    assert body["code"] == case["code"]
    assert body["message"]
    assert body["reason"]
    assert "traceback" not in body


def test_refused_invalid_utf8(client: httpx.Client) -> None:
    reply = client.post("chat", content=b'{"prompt":"\xff"}', headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_json")


@pytest.mark.parametrize(
    ("method", "path", "size"),
    [
        ("PUT", "conversations/limits/settings", 2**20 + 1),
        ("PUT", "conversations/limits/tools", 2**20 + 1),
        ("POST", "conversations/limits/approvals/x", 20 * 2**20),
        ("POST", "chat", 20 * 2**20 + 1),  # a prompt may have pictures with it
        ("POST", "chat", 40 * 2**20),
    ],
)
def test_a_body_over_the_limit_gets_its_answer(
    client: httpx.Client, method: str, path: str, size: int
) -> None:
    body = b'{"prompt":"' + b"x" * size + b'"}'
    reply = client.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")


def test_a_prompt_over_the_limit(client: httpx.Client) -> None:
    reply = client.post("chat", json={"prompt": "x" * (256 * 1024 + 1)})
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


def test_a_conv_id_of_a_megabyte(client: httpx.Client) -> None:
    reply = client.post("chat", json={"prompt": "a", "conv_id": "a" * 1_000_000})
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_conv_id")
