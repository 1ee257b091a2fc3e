"""What a caller of this package can get wrong; every message names the value, what is known and the remedy.

    InputError (a ValueError)
    ├── UnknownServiceError   no provider of that name in the catalogue
    ├── UnknownDatasetError   no such dataset, or the provider does not serve it
    ├── UnknownAdjustmentError  nobody has the dataset adjusted so
    ├── InvalidSymbolError    a symbol that could not be one
    ├── MissingSettingError   an environment variable that the provider needs is not set
    │   ├── MissingKeyError       it needs a key
    │   └── MissingContactError   it wants to know who asks
    └── SettingsError         an environment variable holds something unusable

A provider's own answers, bad ones included, are no exceptions: they are `tasks.providers.Judgement` values.
Each class takes its parts as positional arguments and builds its message from them, so it survives pickling
and a JSON result backend, which rebuild an exception from `args`.
"""

from collections.abc import Sequence
from typing import ClassVar


def _shown(value: object) -> str:
    """The value as it may stand in a message: quoted and cut, so a hostile one cannot flood a log line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 (a line's room, not a setting)


class InputError(ValueError):
    """Base of everything here: the request is wrong and would be wrong again; never retry it."""


class UnknownServiceError(InputError):
    """No provider of that name.

    Args:
        service: The name asked for.
        known: The names the catalogue has.
    """

    def __init__(self, service: str, known: Sequence[str]) -> None:
        super().__init__(service, list(known))
        self.service, self.known = service, list(known)

    def __str__(self) -> str:
        return f"unknown service {_shown(self.service)}; known are {', '.join(self.known)}"


class UnknownDatasetError(InputError):
    """No such dataset, or not at this provider.

    Args:
        dataset: The name asked for.
        known: The datasets there are, or those the provider serves.
        service: The provider asked, where the dataset exists but not there.
    """

    def __init__(self, dataset: str, known: Sequence[str], service: str | None = None) -> None:
        super().__init__(dataset, list(known), service)
        self.dataset, self.known, self.service = dataset, list(known), service

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        if self.service is None:
            return f"unknown dataset {_shown(self.dataset)}; known are {known}"
        return f"{self.service} does not serve the dataset {_shown(self.dataset)}; it serves {known}"


class UnknownAdjustmentError(InputError):
    """Nobody who could be asked has the dataset adjusted so.

    Args:
        adjustment: What was asked for.
        dataset: Of what.
        known: The adjustments that can be had; none where the dataset knows of none.
    """

    def __init__(self, adjustment: object, dataset: str, known: Sequence[str]) -> None:
        super().__init__(adjustment, dataset, list(known))
        self.adjustment, self.dataset, self.known = adjustment, dataset, list(known)

    def __str__(self) -> str:
        remedy = f"known here: {', '.join(self.known)}" if self.known else "it has none: leave it out"
        return f"unknown adjustment {_shown(self.adjustment)} of {self.dataset}; {remedy}"


class InvalidSymbolError(InputError):
    """A text that cannot be a symbol, or not at this provider.

    Args:
        symbol: The text.
        remedy: What to write instead.
    """

    def __init__(
        self,
        symbol: object,
        remedy: str = "use 1 to 32 letters, digits or . _ - ^ = with at least one letter or digit, as in "
        "AAPL, BRK.B or ^GSPC, or up to 128 of them and : in a name such as COINGECKO:BITCOIN; a pair of "
        "currencies has a slash, as in EUR/USD",
    ) -> None:
        super().__init__(symbol, remedy)
        self.symbol, self.remedy = symbol, remedy

    def __str__(self) -> str:
        return f"invalid symbol {_shown(self.symbol)}; {self.remedy}"


class MissingSettingError(InputError):
    """Base of what says that an environment variable the provider needs is not set.

    Args:
        variable: Its name.
    """

    remedy: ClassVar[str]

    def __init__(self, variable: str) -> None:
        super().__init__(variable)
        self.variable = variable

    def __str__(self) -> str:
        return f"{self.variable} is not set; {self.remedy}"


class MissingKeyError(MissingSettingError):
    """The provider needs a key and none is set."""

    remedy = "put it in the environment or .env"


class MissingContactError(MissingSettingError):
    """The provider answers nobody who does not say who asks, and nothing is set."""

    remedy = (
        "put a name and an e-mail address in the environment or .env, "
        "as in Example Research admin@example.com"
    )


class SettingsError(InputError):
    """An environment variable holds something unusable.

    Args:
        variable: Its name, or the file that cannot be read.
        why: What is wrong with it, without any secret part of its value.
        remedy: What to write instead.
    """

    def __init__(self, variable: str, why: str, remedy: str) -> None:
        super().__init__(variable, why, remedy)
        self.variable, self.why, self.remedy = variable, why, remedy

    def __str__(self) -> str:
        return f"{self.variable}: {self.why}; {self.remedy}"
