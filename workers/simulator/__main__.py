"""`python -m workers.simulator --control-port 8900`: see `workers.simulator.server`."""

import argparse
import sys
from collections.abc import Sequence

from tasks.errors import UnknownServiceError
from workers.simulator.quotas import circuits
from workers.simulator.server import FASTEST, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and serve.

    Args:
        arguments: The command line's; the process's own where None.

    Returns:
        The exit code: 0, or 2 for a taken port or a wrong argument.
    """
    parser = argparse.ArgumentParser(prog="python -m workers.simulator", description="Simulated providers.")
    parser.add_argument(
        "--control-port", type=int, default=8900, metavar="PORT", help="0 for free ports (8900)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument("--providers", nargs="+", default=[], metavar="SERVICE", help="which (all)")
    parser.add_argument(
        "--quotas",
        type=float,
        metavar="FACTOR",
        help="refuse what is above the documented quotas; windows of an hour and more are so many times "
        "shorter, 1 for as documented (no quotas)",
    )
    parser.add_argument(
        "--circuits",
        action="store_true",
        help="print the circuits.toml of who keeps to these quotas, and end",
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.control_port < 65_000:  # noqa: PLR2004 (room for the providers' ports above it)
        parser.error(f"--control-port {options.control_port} is not between 0 and 64999")
    if options.quotas is not None and not 1 <= options.quotas <= FASTEST:
        parser.error(f"--quotas {options.quotas:g} is not between 1 and {FASTEST}")
    if options.circuits:
        sys.stdout.write(circuits(options.quotas or 1))
        return 0
    try:
        return run(options.host, options.control_port, options.providers, options.quotas)
    except UnknownServiceError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
