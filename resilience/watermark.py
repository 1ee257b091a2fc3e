"""How full the store may get: from here on nothing new is parked, so that it never comes to the last byte."""

from __future__ import annotations

from dataclasses import dataclass

#: Above this part of its ``maxmemory`` nothing new is parked …
SUSPEND_ABOVE = 0.90
#: … until it is below this one.
RESUME_BELOW = 0.85


@dataclass(slots=True)
class Watermark:
    """Whether the store's memory is nearly used up.

    Attributes:
        reached: It is.
    """

    reached: bool = False

    def see(self, used: int, most: int) -> bool:
        """Take a look at the figures, in bytes; ``most`` 0: no limit is set.

        Returns:
            Whether this look has changed anything.
        """
        before = self.reached
        part = used / most if most else 0.0
        self.reached = part > SUSPEND_ABOVE or (before and part >= RESUME_BELOW)
        return self.reached is not before
