"""The wheel: what is in it, and that it works where nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STATIC = ("widget.js", "page.js", "math.js", "widget.css")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built with the build tools of this environment."""
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        out,
        ROOT,
    ]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_both_packages_the_front_end_and_the_configuration(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    version = wheel.name.split("-")[1]
    assert top == {
        "webchat_widget",
        "jupyter_server_webchat",
        f"webchat_widget-{version}.data",
        f"webchat_widget-{version}.dist-info",
    }
    for name in STATIC:
        assert f"webchat_widget/static/{name}" in names
    assert "webchat_widget/py.typed" in names
    assert "jupyter_server_webchat/rest-api.yml" in names
    assert "jupyter_server_webchat/templates/webchat.html" in names
    config = (
        f"webchat_widget-{version}.data/data/etc/jupyter/jupyter_server_config.d/jupyter_server_webchat.json"
    )
    enabled = json.loads(zipfile.ZipFile(wheel).read(config))
    assert enabled == {"ServerApp": {"jpserver_extensions": {"jupyter_server_webchat": True}}}
    assert not [name for name in names if ".test." in name or name.startswith("tests/")]


def test_the_wheel_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed as a user would, with what pip takes for it, and no Node in sight."""
    env = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", str(env)], check=True)
    bin = env / "bin"
    subprocess.run([bin / "pip", "install", "-q", str(wheel)], check=True, env={"PATH": str(bin)})
    listed = subprocess.run(
        [bin / "jupyter", "server", "extension", "list"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": str(bin), "HOME": str(tmp_path)},
    )
    lines = [
        line for line in (listed.stdout + listed.stderr).splitlines() if "jupyter_server_webchat" in line
    ]
    assert any("enabled" in line for line in lines)
    assert any("OK" in line for line in lines)
    shown = subprocess.run(
        [
            bin / "python",
            "-c",
            "from webchat_widget import ChatWidget; c = ChatWidget(); print(repr(c), len(c._esm))",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    name, size = shown.stdout.split()
    assert name == "ChatWidget()"
    assert 50_000 < int(size) < 250_000


def test_nothing_built_is_in_the_repository() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "webchat_widget/static"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert tracked.stdout == ""
