"""Between fronts and replicas: what a peer keeps of the prompts that its replicas have."""

from collections.abc import Hashable

from p2p.processes import MemoryChildren
from p2p.replicas.relay import Relay
from p2p.routing.letters import OrderFor, ToFront
from p2p.serving.messages import Cancel, Done, Generate


def test_an_order_that_comes_twice_is_carried_out_once() -> None:
    """By whatever replica: the second one's end is not the first one's, and nothing stays."""
    children, said = MemoryChildren(), list[tuple[Hashable, ToFront]]()
    for child in "xy":
        children.start(child, {})
    relay = Relay(children, lambda front, letter: said.append((front, letter)))
    for child in "xxy":
        relay.on_letter("front", OrderFor(child, Generate("r", text="a")), True, 0.0)
    relay.on_letter("front", OrderFor("y", Cancel("r")), True, 0.0)
    assert [len(children.told[child]) for child in "xy"] == [1, 0]
    assert [relay.prompts(child) for child in "xy"] == [1, 0]
    relay.on_done("x", Done("r", "stop", 1, 1))
    assert len(said) == 1
    assert relay.is_idle
    assert [relay.prompts(child) for child in "xy"] == [0, 0]
