"""The replicas as a front sees them: what each has to do, and which one is given a prompt. Pure."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from p2p.routing.prompts import Prompt, Target

AT_REPLICA_MAX = 64  # prompts that this front gives to one replica at a time
STICKY_SLACK = 4  # prompts more than elsewhere, and a conversation still stays with its replica
CONVERSATIONS_MAX = 10_000


@dataclass(slots=True)
class Load:
    told: int = 0  # prompts that it has, of all fronts together
    since: int = 0  # that it was given here since it told that
    avoid_until_s: float = 0.0
    heard_s: float = 0.0  # when its peer last said anything of it, or it got its first from here
    at: dict[str, Prompt] = field(default_factory=dict)  # from here, by wire id
    kept_for: Prompt | None = None  # a suspect, which gets it alone

    @property
    def work(self) -> int:
        """Prompts it has: what it told and was given since, or at least those from here."""
        return max(self.told + self.since, len(self.at))


class Replicas:
    """`targets` are those that can answer, as the log says; who is not among them any more goes on
    with what it has.
    """

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}  # by child
        self.loads: dict[str, Load] = {}  # by child
        self._by_service: dict[str, list[Target]] = {}
        self._gone: set[str] = set()  # that ended, though the log still has them
        self._last_child: OrderedDict[str, str] = OrderedDict()  # by conversation

    def follow(self, targets: Iterable[Target]) -> None:
        told = {target.child: target for target in targets}
        self._gone &= told.keys()
        self.targets = {child: told[child] for child in told if child not in self._gone}
        self._by_service = {}
        for target in self.targets.values():
            self._by_service.setdefault(target.service, []).append(target)
        for child in self.loads.keys() - self.targets.keys():
            if not self.loads[child].at:
                del self.loads[child]

    def load(self, child: str) -> Load:
        return self.loads.setdefault(child, Load())

    def heard(self, child: str, now_s: float, prompts: int | None = None) -> None:
        """Its peer said something of it; `prompts`: so many it has."""
        load = self.loads.get(child)
        if load is not None:
            load.heard_s = now_s
            if prompts is not None:
                load.told, load.since = prompts, 0

    def avoid(self, child: str, until_s: float) -> None:
        if child in self.targets:  # who is none gets nothing anyway
            self.load(child).avoid_until_s = until_s

    def come_back(self, peer: str) -> None:
        """It can be reached again."""
        for child, target in self.targets.items():
            if target.peer == peer and child in self.loads:
                self.loads[child].avoid_until_s = 0.0

    def ended(self, child: str) -> None:
        """What it had from here is still to be taken back."""
        target = self.targets.pop(child, None)
        if target is not None:
            self._gone.add(child)
            self._by_service[target.service].remove(target)
        if not self.at(child):
            self.loads.pop(child, None)

    def answering(self, service: str) -> int:
        return len(self._by_service.get(service, ()))

    def could(self, prompt: Prompt) -> list[Target]:
        """Those with the weights that it needs, however busy."""
        able = self._by_service.get(prompt.asked.service, [])
        return [target for target in able if prompt.needs in (None, target.weights)]

    def of_peer(self, peer: str) -> list[str]:
        """Its replicas, as far as this front has anything to do with them."""
        known = [*self.targets.values(), *(target for target, _ in self.entrusted())]
        return list(dict.fromkeys(target.child for target in known if target.peer == peer))

    def choose(self, prompt: Prompt, now_s: float) -> Target | None:
        able = [told for told in self.could(prompt) if self._is_free(told, prompt, now_s)]
        if not able:
            return None
        if prompt.is_suspect:
            return self._alone(prompt, able)
        least = min(able, key=lambda target: (self.load(target.child).work, target.child))
        last = self._last_child.get(prompt.asked.conversation or "")
        sticky = next((target for target in able if target.child == last), least)
        works = [self.load(target.child).work for target in (sticky, least)]
        return sticky if works[0] <= works[1] + STICKY_SLACK else least

    def give(self, prompt: Prompt, target: Target, wire_id: str, now_s: float) -> None:
        load = self.load(target.child)
        if not load.at:
            load.heard_s = max(load.heard_s, now_s)
        load.at[wire_id] = prompt
        load.since += 1
        prompt.target, prompt.wire_id = target, wire_id
        if prompt.asked.conversation is not None:
            self._last_child[prompt.asked.conversation] = target.child
            self._last_child.move_to_end(prompt.asked.conversation)
            if len(self._last_child) > CONVERSATIONS_MAX:
                self._last_child.popitem(last=False)

    def take_back(self, prompt: Prompt) -> None:
        target, prompt.target = prompt.target, None
        load = self.loads.get(target.child) if target else None
        if target is None or load is None:
            return
        load.at.pop(prompt.wire_id, None)
        if not load.at and target.child not in self.targets:
            del self.loads[target.child]

    def peers(self) -> set[str]:
        """Those whose replicas have something from here."""
        return {target.peer for target, _ in self.entrusted()}

    def at(self, child: str) -> list[Prompt]:
        load = self.loads.get(child)
        return list(load.at.values()) if load else []

    def attempt(self, child: str, wire_id: str) -> Prompt | None:
        load = self.loads.get(child)
        return load.at.get(wire_id) if load else None

    def entrusted(self) -> Iterator[tuple[Target, Load]]:
        """The replicas that have something from here."""
        for load in list(self.loads.values()):
            prompt = next(iter(load.at.values()), None)
            if prompt is not None and prompt.target is not None:
                yield prompt.target, load

    def _is_free(self, target: Target, prompt: Prompt, now_s: float) -> bool:
        load = self.load(target.child)
        kept = load.kept_for
        if kept is not None and (
            kept.is_over or not kept.is_suspect or kept.target not in (None, target)
        ):
            kept = load.kept_for = None
        is_full = len(load.at) >= AT_REPLICA_MAX
        return kept in (None, prompt) and not is_full and load.avoid_until_s <= now_s

    def _alone(self, prompt: Prompt, able: list[Target]) -> Target | None:
        """A replica that gets nothing else from here; if none is idle, one is kept until it is."""
        mine = [target for target in able if self.load(target.child).kept_for is prompt]
        least = min(mine or able, key=lambda t: (len(self.load(t.child).at), t.child))
        load = self.load(least.child)
        load.kept_for = prompt
        return None if load.at else least
