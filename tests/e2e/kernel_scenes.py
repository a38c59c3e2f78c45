"""What one may see of a chat in a kernel, mostly when it is not well; each brings it about for a while."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.e2e.lab import LabPage, chat_cell
from tests.e2e.pages import ChatPage
from tests.e2e.scenes import QUESTION, READY
from tests.support.model_server import Gate, ModelServer, Reply
from tests.support.waiting import until

__all__ = ["KERNEL_SCENES", "KernelScene"]

Open = Callable[..., LabPage]
"""Opens a notebook with the given cells where no extension is; ``kernel=`` names another kernel."""
KernelScene = Callable[[Open, ModelServer], AbstractContextManager[LabPage]]

OLDER = "python-ipykernel6"


def _complains(lab: LabPage) -> LabPage:
    until(ChatPage(lab.page).complaint, "a sentence about what is wrong", 10)
    return lab


@contextmanager
def kernel_streaming(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    """Nothing is wrong: a chat in the kernel."""
    lab = open_lab(chat_cell())
    chat = lab.chat()
    gate = Gate()
    model.script(READY, Reply("About 11.2 km/s for the Earth, which is the square root of two", hold=gate))
    chat.ask("Ready?")
    chat.send(QUESTION)
    gate.step(5)
    until(lambda: "km/s" in chat.assistant_text(), "the beginning of an answer")
    yield lab


@contextmanager
def kernel_busy_at_first(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab("import webchat_widget", kernel=OLDER)
    lab.start_cell(chat_cell())
    with lab.busy():
        yield _complains(lab)


@contextmanager
def kernel_busy(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab(chat_cell(), kernel=OLDER)
    chat = lab.chat()
    chat.ask("Ready?")
    with lab.busy():
        chat.send(QUESTION)
        told = chat.part("statusbar").locator("span").first
        until(lambda: "waits" in told.inner_text(), "the status bar says that it waits")
        until(lambda: told.evaluate("span => getComputedStyle(span).opacity") == "1", "it has faded in")
        yield lab


@contextmanager
def kernel_restarted(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    with kernel_streaming(open_lab, model) as lab:
        lab.restart_kernel()
        yield _complains(lab)


@contextmanager
def kernel_restarted_too_soon(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    """It had not heard the last prompt yet."""
    with kernel_busy(open_lab, model) as lab:
        lab.restart_kernel()
        yield _complains(lab)


@contextmanager
def revived(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    lab = open_lab(chat_cell())
    lab.chat().ask("Ready?")
    lab.save_with_widgets()
    lab.shut_kernel_down()
    yield _complains(lab.open())


@contextmanager
def extension_gone(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    """A widget that was told that its chat is on the server."""
    lab = open_lab(chat_cell())
    lab.chat()
    lab.run_cell("chat._where = 'server'")
    yield _complains(lab)


@contextmanager
def held(open_lab: Open, model: ModelServer) -> Iterator[LabPage]:
    """Another kernel has the conversation."""
    lab = open_lab("import subprocess, sys")
    conv_id = f"shared-{uuid.uuid4()}"
    holder = (
        f"from webchat_widget import ChatWidget; print(ChatWidget({conv_id!r}).entities, flush=True); input()"
    )
    lab.run_cell(
        f"other = subprocess.Popen([sys.executable, '-c', {holder!r}], stdin=-1, stdout=-1)\n"
        "other.stdout.readline()"
    )
    lab.start_cell(chat_cell(repr(conv_id))).wait()
    yield _complains(lab)


KERNEL_SCENES: tuple[KernelScene, ...] = (
    kernel_streaming,
    kernel_busy_at_first,
    kernel_busy,
    kernel_restarted,
    kernel_restarted_too_soon,
    revived,
    extension_gone,
    held,
)
