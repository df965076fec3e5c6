"""One seed from start to end, and what came of it."""

import traceback

from tools.linearizability import Operation, check
from tools.sim.client import Client
from tools.sim.faults import Nemesis
from tools.sim.heal import Heal
from tools.sim.outcome import Outcome
from tools.sim.parameters import SECOND, Parameters
from tools.sim.violation import Violation
from tools.sim.world import World


def run(parameters: Parameters, tracing: bool = False) -> Outcome:
    """Never raises for what the peers do: whatever they raise is an outcome, too."""
    world = World(parameters, tracing)
    invariant: str | None = None
    sentence = where = ""
    healed_after = 0
    try:
        world.found()
        history: list[Operation] = []
        clients = [Client(world, f"c{n + 1}", history) for n in range(parameters.clients)]
        nemesis = Nemesis(world)
        world.run_until(parameters.fault_time)
        for client in clients:
            client.active = False
        nemesis.heal()
        healed_after = Heal(world).run()
        finish(world, clients, history)
    except Violation as violation:
        invariant, sentence = violation.invariant, str(violation)
    except Exception as error:
        invariant = f"a peer raises {type(error).__name__}"
        sentence, where = str(error), traceback.format_exc(limit=-6)
    if world.ring.steps:
        world.counts["training steps applied"] = world.ring.steps
    world.counts["checks"] = world.checks.count
    world.counts["commits"] = world.oracle.last_committed
    return Outcome(
        seed=parameters.seed,
        parameters=parameters.lines(),
        invariant=invariant,
        sentence=sentence,
        where=where,
        counts=world.counts,
        simulated=world.now,
        healed_after=healed_after,
        events=world.events,
        trace=world.trace or [],
    )


def finish(world: World, clients: list[Client], history: list[Operation]) -> None:
    """The clients' last requests end; then what is in the store must explain it all."""
    while any(client.is_waiting for client in clients):
        world.run_until(world.now + SECOND)
    store = world.leaders()[0].state().store
    for number in range(world.parameters.keys):
        key = f"k{number}"
        now = world.now
        history.append(Operation("the end", key, "get", None, store.get(key), now, now))
    verdict = check(history)
    if verdict.ok is False:
        raise Violation("17 client level", verdict.sentence)
    if verdict.ok is None:
        world.counts["histories undecided"] += 1
    world.counts["histories checked"] += 1
