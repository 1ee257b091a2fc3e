"""The image: nobody in it is root, nothing in it can be changed, and it works all the same."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.conftest import RUN
from tests.containers.test_compose import FILES
from tests.stack import VERSION, Stack

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = f"market-data-resilience:{VERSION}"
# As docker-compose.yml starts it.
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true")  # noqa: S108 - the container's own

# What its user may write to; but for links, and what the kernel makes.
WRITABLE = """
import json, os
found = []
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys", "/dev")]
    paths = [folder, *(os.path.join(folder, name) for name in files)]
    found += [path for path in paths if not os.path.islink(path) and os.access(path, os.W_OK)]
print(json.dumps(found))
"""
STATUS = """
import json
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({name: lines[name].split() for name in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs")}))
"""


def inside(*command: str, options: tuple[str, ...] = HARDENED) -> str:
    """What a command prints in a container of its own, without a network."""
    run = ("docker", "run", "--rm", "--network", "none", *options, IMAGE)
    done = subprocess.run([*run, *command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_processes_are_nobodys_and_may_do_nothing_that_is_roots():
    status = json.loads(inside("python", "-c", STATUS))
    assert set(status["Uid"]) == {"10001"}
    assert "0" not in status["Gid"]
    assert {int(status[name][0], 16) for name in ("CapEff", "CapBnd")} == {0}
    assert status["NoNewPrivs"] == ["1"]


def test_without_a_read_only_root_too_nothing_of_the_program_can_be_written_to():
    writable = json.loads(inside("python", "-c", WRITABLE, options=()))
    shared = ("/tmp", "/var/tmp", "/run/lock")  # noqa: S108 - everybody's
    assert [path for path in writable if path not in shared] == ["/var/lib/market-data"]


def test_with_a_read_only_root_only_the_temporary_folder_is_left_and_the_program_works():
    assert json.loads(inside("python", "-c", WRITABLE)) == ["/tmp"]  # noqa: S108 - the container's own
    assert "WRITTEN" in inside("sh", "-c", "echo WRITTEN >/tmp/file && cat /tmp/file")
    checked = inside("celery", "-A", "workers", "schedule", "check", "--json")
    assert json.loads(checked)


def test_it_is_told_no_secret():
    shown = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=True).stdout  # noqa: S607 - whichever is installed
    [image] = json.loads(shown)
    names = {setting.partition("=")[0] for setting in image["Config"]["Env"]}
    assert {"PATH", "STATE_DIR"} <= names
    assert not [name for name in names if name.endswith(("_KEY", "_PASSWORD", "_SECRET", "_TOKEN"))]
    assert image["Config"]["User"] == "10001"


@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_compose_takes_nothing_of_that_back(files: tuple[str, ...], tmp_path: Path) -> None:
    services = Stack(tmp_path, RUN, *files).configuration()["services"]
    del services["webhook"]  # the tests' own
    ours = {name: service for name, service in services.items() if service["image"] == IMAGE}
    assert {"worker", "worker-on-demand", "beat", "flower", "simulator"} <= set(ours)
    for name, service in ours.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.keys() & {"user", "privileged", "cap_add", "devices", "pid", "network_mode"}, name
        assert service["tmpfs"] == ["/tmp"], name  # noqa: S108 - the container's own
        assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory", "pids"}, name
        assert all(mount_is_harmless(mount) for mount in service.get("volumes", [])), name
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name


def mount_is_harmless(mount: dict[str, Any]) -> bool:
    """A file of settings that cannot be written to, or a volume of the stack's own."""
    if mount["type"] == "volume":
        return mount["target"] == "/var/lib/market-data"
    return mount["type"] == "bind" and mount.get("read_only") is True and mount["source"].endswith(".toml")
