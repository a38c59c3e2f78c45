"""What a model says runs nothing and fetches nothing, and the key of the model is nowhere to be found."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, WebSocket

from tests.e2e.conftest import CANARY, Console
from tests.e2e.lab import LabPage
from tests.e2e.pages import ChatPage, open_page
from tests.support.jupyter import Jupyter
from tests.support.model_server import ModelServer, Reply
from tests.support.waiting import until

HOSTILE = r"""
<script>window.canary = 1</script>
<img src=x onerror="window.canary = 2"><svg onload="window.canary = 3"></svg>
<iframe srcdoc="<script>parent.canary = 4</script>"></iframe>

![a picture]({leak}/markdown.png) ![data](data:text/html,<script>window.canary=5</script>)
[click me](javascript:window.canary=6) [and me](  JaVa&#x53;cript:window.canary=7) [relative](/logout)
[reference][ref] <javascript:window.canary=8> [data](data:text/html;base64,PHNjcmlwdD4=)

[ref]: vbscript:window.canary=9

<a id="jupyter-config-data" name="jupyterapp" href="{leak}/anchor">clobber</a>
<link rel=stylesheet href={leak}/style.css><style>@import url({leak}/import.css)</style>
<form action={leak}/form><button formaction="javascript:window.canary=10">press</button></form>

| a | b |
|---|---|
| <img src={leak}/cell.png onerror=window.canary=11> | ![x]({leak}/cell2.png) |

```html
<script>window.canary = 12</script>
```

$\href{javascript:window.canary=13}{x}$ $$\includegraphics{{leak}/math.png}$$
$\style{background:url({leak}/tex)}{x}$

The end.
"""


def check_harmless(chat: ChatPage, console: Console) -> None:
    page = chat.page
    assert page.evaluate("window.canary ?? null") is None
    leaks = [url for url in console.requests if "/leak" in url]
    assert leaks == []
    forbidden = (
        "script, iframe, object, embed, form, link, style, svg [onload], img[src^=http], [onerror], [onload]"
    )
    assert chat.part("content").locator(forbidden).count() == 0
    clobbering = chat.part("content").locator("[id], [name]")
    assert clobbering.count() == 0
    hrefs = chat.part("content").locator("a[href]").evaluate_all("links => links.map(link => link.href)")
    assert all(href.startswith(("http:", "https:", "mailto:")) for href in hrefs), hrefs
    assert not any(href.endswith("/logout") for href in hrefs)


def test_a_hostile_answer_is_only_text(chat: ChatPage, model: ModelServer, console: Console) -> None:
    leak = f"http://127.0.0.1:{model.port}/leak"
    model.script(Reply(chunks=list(HOSTILE.replace("{leak}", leak))))
    answer = chat.ask("be evil")
    assert answer.endswith("The end.")
    assert "<script>window.canary = 1</script>" in answer, "raw HTML is shown as text"
    check_harmless(chat, console)
    for link in chat.part("content").locator("a").all():
        assert "noopener" in (link.get_attribute("rel") or "")
    chat.reload()
    until(lambda: chat.assistant_text() == answer, "the answer after a reload")
    check_harmless(chat, console)
    assert not any("/leak" in request.path for request in model.requests)


def test_a_hostile_prompt_is_only_text(
    page: Page, lab_server: Jupyter, model: ModelServer, console: Console
) -> None:
    leak = f"http://127.0.0.1:{model.port}/leak"
    chat = open_page(page, lab_server)
    model.script("fine")
    chat.ask(HOSTILE.replace("{leak}", leak))
    check_harmless(chat, console)


def test_the_key_is_nowhere(
    notebook: Callable[..., LabPage], model: ModelServer, lab_server: Jupyter
) -> None:
    lab = notebook()
    chat = lab.chat()
    chat.ask("hello")
    assert model.completions[-1].headers["authorization"] == f"Bearer {CANARY}", (
        "the model server does get the key"
    )
    model.script(Reply(status=401), Reply(status=401, message=f"Bad key {CANARY}"), Reply(status=500), "fine")
    for prompt in ("rejected", "rejected and echoed", "broken"):
        chat.send(prompt)
        chat.wait_idle()
    environment = lab.run_cell("import os; print(sorted(os.environ.items()))")
    lab.run_cell("print(chat.entities, vars(chat), chat.get_state())")
    lab.save()
    places = {
        "the kernel's environment": environment,
        "the notebook": lab.notebook.read_text(),
        "the server's log": lab_server.log_text(),
        "the page": lab.page.content(),
        "the timeline": str(lab_server.timeline(chat.conv_id)),
        "/health": str(lab_server.get_json("webchat/health")),
    }
    assert [place for place, text in places.items() if CANARY in text] == []
    assert not lab_server.stored(CANARY)
    assert lab_server.stored("rejected and echoed"), "the search looks into the right files"


def test_a_key_that_only_the_kernel_needs_stays_in_its_memory(
    page: Page, kernel_notebook: Callable[..., LabPage], model: ModelServer, bare_server: Jupyter
) -> None:
    frames: list[bytes] = []

    def record(payload: bytes | str) -> None:
        frames.append(payload if isinstance(payload, bytes) else payload.encode())

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", record)
        socket.on("framesent", record)

    page.on("websocket", listen)
    lab = kernel_notebook()
    chat = lab.chat()
    model.script("fine", Reply(status=401), Reply(status=401, message=f"Bad key {CANARY}"), Reply(status=500))
    for prompt in ("hello", "rejected", "rejected and echoed", "broken"):
        chat.send(prompt)
        chat.wait_idle()
    assert model.completions[0].headers["authorization"] == f"Bearer {CANARY}", "the kernel does have the key"
    assert lab.run_cell("import os; print(len(os.environ['OPENAI_API_KEY']))") == str(len(CANARY))
    lab.run_cell("print(chat.entities, vars(chat), chat.get_state(), chat.where_reason)")
    lab.save_with_widgets()
    assert CANARY not in page.content()
    assert [frame for frame in frames if CANARY.encode() in frame] == []
    assert any(b"rejected and echoed" in frame for frame in frames), "the search looks at the right frames"
    files = {path: path.read_bytes() for path in bare_server.folder.rglob("*") if path.is_file()}
    assert [path for path, content in files.items() if CANARY.encode() in content] == []
    told = {path.suffix for path, content in files.items() if b"rejected and echoed" in content}
    assert {".ipynb", ".sqlite-wal"} <= told, "and into the right files"
