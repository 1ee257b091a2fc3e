"""The store's user as docs/operating.md gives it: may do what the layer needs, and nothing else."""

from __future__ import annotations

from urllib.parse import quote

import redis

from tests.fleet import ROOT

#: What an address holds is quoted; this must be.
PASSWORD = "st0re/p@ss:w?rd"
QUOTED = quote(PASSWORD, safe="")


def rules() -> list[str]:
    """Of the page, all but the user's name and its password."""
    page = (ROOT / "docs" / "operating.md").read_text("utf-8")
    block = page.partition("user circuits on >PASSWORD ")[2].partition("```")[0]
    assert block, "docs/operating.md gives the store's user"
    return block.replace("\\\n", " ").split()


def url_of(port: int, database: int) -> str:
    """The address of a server on this machine for that user, who is made."""
    make_at(port)
    return f"redis://circuits:{QUOTED}@127.0.0.1:{port}/{database}"


def make_at(port: int) -> None:
    """That user, at a server on this machine."""
    admin = redis.Redis(port=port)
    admin.execute_command("ACL", "SETUSER", "circuits", "reset", "on", f">{PASSWORD}", *rules())
    admin.close()
