from consensus.messages import HardState, Message
from tools.sim.checks.base import Check
from tools.sim.host import Host
from tools.sim.shadow import ShadowLog


class NoAmnesia(Check):
    """Nobody forgets what it promised: a disk that lost something speaks under a new id only."""

    name = "16 no amnesia"

    def on_recovered(self, host: Host, hard_state: HardState, log: ShadowLog) -> None:
        """It must find what was synced plus some whole writes after it, in order."""
        durable = host.durable
        was = f"term {durable.term}, vote {durable.vote} and a log to {durable.log.last}"
        if not durable.recovered(hard_state, log):
            raise self.fail(
                f"{host.name} finds term {hard_state.term}, vote {hard_state.vote} and a log to "
                f"{log.last} on its disk, but had promised {was}."
            )

    def on_send(self, host: Host, message: Message) -> None:
        if host.gone:
            raise self.fail(f"{host.name} sends {message.type} though it is gone: {host.gone}.")
