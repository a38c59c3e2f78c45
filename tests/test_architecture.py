"""Who may import whom: down only. CONTRIBUTING.md has the same list as a drawing."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "webchat_widget": ROOT / "webchat_widget",
    "jupyter_server_webchat": ROOT / "jupyter_server_ext" / "jupyter_server_webchat",
}

# From the top down; a module may import from its own layer and those below it.
LAYERS: list[tuple[str, tuple[str, ...]]] = [
    ("hosts", ("webchat_widget.notebook", "webchat_widget.builtin", "jupyter_server_webchat")),
    ("service", ("webchat_widget.runtime.service",)),
    ("manager", ("webchat_widget.runtime.manager",)),
    (
        "conversation",
        tuple(
            f"webchat_widget.runtime.{name}"
            for name in ("conversation", "approvals", "pauses", "recovery", "run", "outcomes")
        ),
    ),
    ("coordinator", ("webchat_widget.runtime.coordinator",)),
    ("environment", ("webchat_widget.runtime.environment", "webchat_widget.runtime.equipment")),
    ("pool", ("webchat_widget.runtime.pool",)),
    (
        "policy",
        (
            "webchat_widget.tools",
            "webchat_widget.profiles",
            "webchat_widget.plugins",
            "webchat_widget.middlewares",
        ),
    ),
    (
        "adapters",
        (
            "webchat_widget.engines",
            "webchat_widget.timeline.memory",
            "webchat_widget.timeline.sqlite",
            "webchat_widget.timeline.migrations",
        ),
    ),
    ("machines", ("webchat_widget.sem", "webchat_widget.timeline")),
    (
        "words",
        tuple(f"webchat_widget.{name}" for name in ("errors", "typing", "turns", "requests", "events")),
    ),
]
# What is thinner than its layer: prices in modules that everybody reads.
EXCEPTIONS = {
    ("webchat_widget.requests", "webchat_widget.sem.frames"),  # the largest integer of the wire
}
HOSTS_ONLY = {"anywidget", "ipywidgets", "traitlets", "IPython", "tornado", "jupyter_server", "jupyter_core"}
NO_IO = {"asyncio", "time", "uuid", "random", "os", "socket", "threading", "sqlite3", "datetime"}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours, by its name."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), path


MODULES = dict(modules())


def imports(name: str) -> set[str]:
    """Every module that a module imports, wherever in it the import stands."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base]) if base else ".".join(parent)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else base)
    return found


def layer(name: str) -> int | None:
    """The layer of a module: the longest prefix decides. None for a package's own `__init__`."""
    best: tuple[int, int] | None = None
    for depth, (_, prefixes) in enumerate(LAYERS):
        for prefix in prefixes:
            if (name == prefix or name.startswith(f"{prefix}.")) and (best is None or len(prefix) > best[0]):
                best = (len(prefix), depth)
    return None if best is None else best[1]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    mine = layer(name)
    if mine is None:
        assert name in ("webchat_widget", "webchat_widget.runtime"), f"{name} has no layer"
        return
    for other in imports(name) & set(MODULES):
        theirs = layer(other)
        if theirs is not None and (name, other) not in EXCEPTIONS:
            assert theirs >= mine, f"{name} ({LAYERS[mine][0]}) imports {other} ({LAYERS[theirs][0]})"


@pytest.mark.parametrize("name", MODULES)
def test_the_hosts_do_not_know_each_other_and_keep_their_libraries(name: str) -> None:
    seen = imports(name)
    if name.startswith("jupyter_server_webchat"):
        assert not [other for other in seen if other.startswith("webchat_widget.notebook")]
        assert "anywidget" not in {other.split(".")[0] for other in seen}
    elif name.startswith("webchat_widget.notebook"):
        assert not [other for other in seen if other.startswith(("jupyter_server", "tornado"))]
    else:
        assert not {other.split(".")[0] for other in seen} & HOSTS_ONLY


@pytest.mark.parametrize(
    "name",
    [n for n in MODULES if n.startswith(("webchat_widget.sem", "webchat_widget.timeline")) and layer(n) == 9],
)
def test_machines_have_no_clock_no_ids_and_no_io(name: str) -> None:
    assert not {other.split(".")[0] for other in imports(name)} & NO_IO
    assert "async def" not in MODULES[name].read_text(encoding="utf-8") or name.endswith(".store")


def test_asyncio_is_the_runtimes_alone() -> None:
    users = {name for name in MODULES if "asyncio" in imports(name)}
    allowed = ("webchat_widget.runtime", "webchat_widget.notebook", "jupyter_server_webchat")
    # A tool and an engine wait too, and the store hands futures out.
    others = {name for name in users if not name.startswith(allowed)}
    assert {name.rsplit(".", 1)[0] for name in others} <= {
        "webchat_widget.tools",
        "webchat_widget.engines",
        "webchat_widget.timeline",
    }


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_exports_is_there(name: str) -> None:
    module = importlib.import_module(name)
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported)
    assert module.__doc__, "a module says what it is for"


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh Python has loaded after a statement."""
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_importing_the_package_is_cheap() -> None:
    loaded = loaded_by("import webchat_widget")
    assert not loaded & {"openai", "jupyter_server", "anywidget", "tornado", "pydantic", "httpx"}


def test_importing_the_widget_needs_neither_the_model_nor_the_server() -> None:
    assert not loaded_by("from webchat_widget import ChatWidget") & {"openai", "jupyter_server", "pydantic"}


def test_the_server_never_imports_the_widget() -> None:
    loaded = loaded_by("import jupyter_server_webchat.app")
    assert not loaded & {"anywidget", "ipywidgets", "openai", "pydantic"}


def test_the_room_is_no_package() -> None:
    assert not (ROOT / "jupyter_server_ext" / "__init__.py").exists()
    assert "jupyter_server_ext" not in {info.name for info in pkgutil.iter_modules([str(ROOT)])}
