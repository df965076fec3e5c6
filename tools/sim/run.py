"""One seed from start to end, and what came of it."""

import traceback
from collections import Counter
from dataclasses import dataclass

from tools.sim.client import Client
from tools.sim.faults import Nemesis
from tools.sim.heal import Heal
from tools.sim.parameters import Parameters
from tools.sim.violation import Violation
from tools.sim.world import World


@dataclass(frozen=True, slots=True)
class Outcome:
    """`invariant` is None when all held; times in simulated microseconds."""

    parameters: Parameters
    invariant: str | None
    sentence: str
    where: str
    counts: Counter[str]
    simulated: int
    healed_after: int
    events: int
    trace: list[str]


def run(
    parameters: Parameters, mutations: frozenset[str] = frozenset(), tracing: bool = False
) -> Outcome:
    """Never raises for what the core does: whatever it raises is an outcome, too."""
    world = World(parameters, mutations, tracing)
    invariant: str | None = None
    sentence = where = ""
    healed_after = 0
    try:
        world.found()
        client = Client(world)
        nemesis = Nemesis(world, client)
        world.run_until(parameters.fault_time)
        client.active = False
        nemesis.heal()
        healed_after = Heal(world).run()
    except Violation as violation:
        invariant, sentence = violation.invariant, str(violation)
    except Exception as error:
        invariant = f"the core raises {type(error).__name__}"
        sentence, where = str(error), traceback.format_exc(limit=-6)
    world.counts["commits"] = world.oracle.last_committed
    return Outcome(
        parameters=parameters,
        invariant=invariant,
        sentence=sentence,
        where=where,
        counts=world.counts,
        simulated=world.now,
        healed_after=healed_after,
        events=world.events,
        trace=world.trace or [],
    )
