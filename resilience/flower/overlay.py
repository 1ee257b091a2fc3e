"""Flower's templates and ours, and a menu entry in Flower's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.template import Loader, Template

# The entry goes to the end of the first list of the menu, behind Workers, Tasks and Broker.
MENU, MENU_ENDS = "navbar.html", "</ul>"
ENTRY = """\
  <li class="nav-item">
    <a class="nav-link{% if active_tab == 'circuits' %} active{% end %}" href="{{ reverse_url('circuits') }}"
      {% if active_tab == 'circuits' %}aria-current="page"{% end %}>Circuits</a>
  </li>
"""


class Templates(Loader):
    """Finds a template in our folder, else in Flower's.

    Args:
        ours: Our folder.
        flowers: Flower's.

    Raises:
        RuntimeError: Flower's menu is not as it was.
    """

    def __init__(self, ours: Path, flowers: Path) -> None:
        super().__init__(str(flowers))
        self._ours = ours
        self.load(MENU)

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:  # noqa: ARG002 - Tornado's signature
        """Neither folder has folders."""
        return name

    def _create_template(self, name: str) -> Any:
        path = self._ours / name
        if path.exists():
            return Template(path.read_bytes(), name=name, loader=self)
        if name != MENU:
            return super()._create_template(name)
        before, found, after = (Path(self.root) / name).read_text("utf-8").partition(MENU_ENDS)
        if not found or "reverse_url('broker')" not in before:
            raise RuntimeError(
                f"Flower's {name} has no menu that ends behind Broker: install flower>=2.2,<2.3"
            )
        return Template(before + ENTRY + found + after, name=name, loader=self)
