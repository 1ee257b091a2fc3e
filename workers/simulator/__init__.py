"""Stand-ins for the providers: real HTTP servers on loopback that answer, and fail, as documented.

`python -m workers.simulator` runs them; `SimulatorClient` steers them.
"""

from workers.simulator.client import SimulatorClient, SimulatorError
from workers.simulator.modes import Mode

__all__ = ["Mode", "SimulatorClient", "SimulatorError"]
