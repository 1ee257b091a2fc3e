"""The providers' settings, from the environment, then from `.env` in the current directory.

Each provider of the catalogue has its variables; a new row brings its own:

    <SERVICE>_API_KEY    the key, as in FINNHUB_API_KEY; of a pair, `id:secret`
    <SERVICE>_BASE_URL   another address than the catalogue's, as for a local simulator
    <SERVICE>_CONTACT    who asks, where the provider wants to know (SEC_EDGAR_CONTACT)
    <SERVICE>_PLAN       the plan the key is of, where plans are asked in different ways (COINGECKO_PLAN)

And so has each dataset, for whoever fetches or reads it:

    <DATASET>_FRESH_SECONDS   an older value is stale, as in QUOTE_FRESH_SECONDS
    <DATASET>_MAX_SECONDS     an older value is none
    NOT_FOUND_SECONDS         so long a provider that knows no such symbol is not asked again; 0: it is
"""

import re
from collections.abc import Callable
from functools import cache, partial
from hashlib import blake2b
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, create_model, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.errors import MissingContactError, MissingKeyError, SettingsError
from tasks.providers.catalogue import PROVIDERS, find_provider
from tasks.providers.rows import Provider
from tasks.records import DAY, TABLE, Freshness

_KEY = re.compile(r"[\x21-\x7e]{1,512}")
_BAD_KEY = "it holds a space, a line break or a character beyond ASCII"
_CONTACT = re.compile(r"(?=.*[^ @]@[^ @])[ -~]{3,200}")
_HIDDEN = re.compile(r"[^/@]*@|[?#].*", re.DOTALL)


LONGEST_SECONDS = 366 * DAY
NOT_FOUND_SECONDS = 600.0


def _key_problem(key: str) -> str | None:
    """Such a key would break the header it is sent in; the HTTP library's complaint would then show it."""
    return None if _KEY.fullmatch(key) else _BAD_KEY


def _pair_problem(service: str, key: str) -> str | None:
    auth = PROVIDERS[service].auth
    missing = auth is not None and auth.style == "pair" and not all(key.partition(":"))
    return "it needs two parts: write it as id:secret" if missing else None


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        return str(error)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_fine:
        return "it is no http or https URL with a host"
    if "@" in parts.netloc or "?" in url or "#" in url or not url.isprintable() or " " in url:
        return "it holds a user name, a query, a fragment or a blank"
    return None


def _contact_problem(contact: str) -> str | None:
    return None if _CONTACT.fullmatch(contact) else "it holds no e-mail address, or more than plain ASCII"


def _plan_problem(service: str, plan: str) -> str | None:
    plans = PROVIDERS[service].plans
    return None if plan in plans else f"it is none of {', '.join(plans)}"


def _freshness_problem(variable: str, seconds: float, max_seconds: float | None) -> str | None:
    if max_seconds is None or seconds <= max_seconds:
        return None
    return f"it is more than {variable.replace('fresh', 'max').upper()}, which is {max_seconds:g}"


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # pydantic would print a mistyped key
    )

    @field_validator("*", mode="before")
    @classmethod
    def _stripped(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @field_validator("*", mode="after")
    @classmethod
    def _usable(cls, value: object, field: ValidationInfo) -> object:
        problem = None
        if isinstance(value, SecretStr):
            problem = _key_problem(value.get_secret_value()) or _pair_problem(
                str(field.field_name).removesuffix("_api_key"), value.get_secret_value()
            )
        elif isinstance(value, str) and str(field.field_name).endswith("_contact"):
            problem = _contact_problem(value)
        elif isinstance(value, str) and str(field.field_name).endswith("_plan"):
            problem = _plan_problem(str(field.field_name).removesuffix("_plan"), value)
        elif isinstance(value, float):
            name = str(field.field_name)
            problem = _freshness_problem(name, value, field.data.get(name.replace("_fresh_", "_max_")))
        elif isinstance(value, str):
            problem = _url_problem(value)
        if problem:
            raise ValueError(problem)
        return value.rstrip("/") if isinstance(value, str) else value


_fields: dict[str, Any] = {f"{service}_api_key": (SecretStr | None, None) for service in PROVIDERS}
_fields |= {f"{service}_base_url": (str | None, None) for service in PROVIDERS}
_fields |= {
    f"{service}_contact": (str | None, None) for service, row in PROVIDERS.items() if row.contact_required
}
_fields |= {f"{service}_plan": (str | None, None) for service, row in PROVIDERS.items() if row.plans}
_fields |= {
    f"{dataset}_max_seconds": (float, Field(known.freshness.max_seconds, ge=1, le=LONGEST_SECONDS))
    for dataset, known in TABLE.items()
}
_fields |= {  # after those above, which they are compared with, whichever of the two is set
    f"{dataset}_fresh_seconds": (float, Field(known.freshness.fresh_seconds, ge=1, validate_default=True))
    for dataset, known in TABLE.items()
}
_fields |= {"not_found_seconds": (float, Field(NOT_FOUND_SECONDS, ge=0, le=DAY))}
_Build = Callable[..., _Settings]  # the fields are not known to a type checker
_variables = cast("_Build", create_model("Variables", __base__=_Settings, **_fields))


class ProviderSettings:
    """Keys and addresses of the providers, and what the age of their values means.

    Args:
        values: Variables by their names in lower case, above the environment: `finnhub_api_key="..."`.

    Raises:
        SettingsError: A variable, or `.env`, holds something unusable.
    """

    def __init__(self, **values: str) -> None:
        try:
            self._values = _variables(**values)
        except ValidationError as error:
            raise _explained(error) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                ".env", f"it cannot be read ({type(error).__name__})", "save it as UTF-8"
            ) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"  # a SecretStr shows as stars

    def api_key(self, service: str) -> str | None:
        """The key of a service, None where none is set."""
        secret: SecretStr | None = getattr(self._values, f"{find_provider(service).service}_api_key")
        return None if secret is None else secret.get_secret_value()

    def fingerprint(self, service: str) -> str:
        """Tells a service's keys, or contacts, apart without telling any; '' for none.

        A key under another plan is another one: what refused it was asked in the wrong way.
        """
        key = self.api_key(service) or self.contact(service)
        shown = f"{key} {self.plan(service) or ''}".strip().encode()
        salt = service.encode()[:16]
        return "" if key is None else blake2b(shown, digest_size=6, salt=salt).hexdigest()

    def plan(self, service: str) -> str | None:
        """The plan that is set for a service, None where none is, or it has no plans."""
        plan: str | None = getattr(self._values, f"{find_provider(service).service}_plan", None)
        return plan

    def row(self, service: str) -> Provider:
        """A service's row of the catalogue, as its plan has it."""
        return find_provider(service).on(self.plan(service))

    def contact(self, service: str) -> str | None:
        """Who asks, None where nothing is set or nobody wants to know."""
        contact: str | None = getattr(self._values, f"{find_provider(service).service}_contact", None)
        return contact

    def is_set_up(self, service: str) -> bool:
        """Whether there is anything of the user's own for a service."""
        return any(read(service) for read in (self.api_key, self.contact, self.base_url_override))

    def base_url(self, service: str) -> str:
        """Where a service is asked: the variable, else the catalogue's address; no slash at the end."""
        return self.base_url_override(service) or self.row(service).base_url

    def base_url_override(self, service: str) -> str | None:
        """The address set by hand, None where none is."""
        url: str | None = getattr(self._values, f"{find_provider(service).service}_base_url")
        return url

    def freshness(self, dataset: str) -> Freshness:
        """What the age of a dataset's value means."""
        read = partial(getattr, self._values)
        return Freshness(read(f"{dataset}_fresh_seconds"), read(f"{dataset}_max_seconds"))

    @property
    def not_found_seconds(self) -> float:
        """How long a provider's word that it knows no such symbol stands for a call; 0: not at all."""
        seconds: float = self._values.not_found_seconds  # type: ignore[attr-defined]  # the fields are made
        return seconds

    def keys(self) -> frozenset[str]:
        """Every key that is set, as its provider is shown it, for masking."""
        return frozenset(text for service in PROVIDERS for text in self._spellings(service))

    def _spellings(self, service: str) -> frozenset[str]:
        key, auth = self.api_key(service), self.row(service).auth
        if key is None:
            return frozenset()
        return auth.spellings(key) if auth else frozenset({key})


def _explained(error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    variable = str(first["loc"][0]).upper()
    why = str(first["msg"]).removeprefix("Value error, ")
    if variable.endswith("_BASE_URL"):
        shown = _HIDDEN.sub("***", str(first["input"]))[:80]
        return SettingsError(
            variable, f"{shown!r}: {why}", "write it as https://host or http://host:port/path"
        )
    if variable.endswith("_CONTACT"):
        return SettingsError(variable, why, "write a name and an e-mail address")
    if variable.endswith("_PLAN"):
        first_plan = next(iter(PROVIDERS[variable.removesuffix("_PLAN").lower()].plans))
        return SettingsError(
            variable, f"{str(first['input'])[:80]!r}: {why}", f"write one of them; unset it is {first_plan}"
        )
    if variable.endswith("_SECONDS"):
        shown = str(first["input"])[:80]
        longest = DAY if variable.startswith("NOT_FOUND") else LONGEST_SECONDS
        return SettingsError(variable, f"{shown!r}: {why}", f"write seconds, {longest} at most, as in 600")
    return SettingsError(variable, why, "write the key alone, without quotes inside it, on one line")


@cache
def provider_settings() -> ProviderSettings:
    """The process's settings, read once; after `provider_settings.cache_clear()` they are read again.

    Raises:
        SettingsError: A variable, or `.env`, holds something unusable.
    """
    return ProviderSettings()


def credential_of(service: str) -> str | None:
    """The variable with what a service lets one in by: its key, or who asks; None where it wants neither.

    Raises:
        UnknownServiceError: No such service.
    """
    provider = find_provider(service)
    if provider.contact_required:
        return f"{service.upper()}_CONTACT"
    return f"{service.upper()}_API_KEY" if provider.auth else None


def require_key(service: str, settings: ProviderSettings | None = None) -> str | None:
    """The key of a service; None where it needs none and has none.

    Raises:
        MissingKeyError: It needs one; the message names the variable.
        UnknownServiceError: No such service.
    """
    settings = settings or provider_settings()
    key = settings.api_key(service)
    if key is None and settings.row(service).key_required:
        raise MissingKeyError(f"{service.upper()}_API_KEY")
    return key


def require_contact(service: str, settings: ProviderSettings | None = None) -> str | None:
    """Who asks, for a service that wants to know; None for any other.

    Raises:
        MissingContactError: It wants to know, and nothing is set; the message names the variable.
        UnknownServiceError: No such service.
    """
    provider = find_provider(service)
    contact = (settings or provider_settings()).contact(service)
    if contact is None and provider.contact_required:
        raise MissingContactError(f"{service.upper()}_CONTACT")
    return contact
