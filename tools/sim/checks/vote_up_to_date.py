from consensus.messages import Message, MessageType
from tools.sim.checks.base import Check
from tools.sim.host import Host


class VoteUpToDate(Check):
    """Who gets a vote holds all that the voter holds for committed, in a log at least as new."""

    name = "13 vote implies up-to-date"

    def on_send(self, host: Host, message: Message) -> None:
        if message.type is not MessageType.VOTE_RESP or message.reject:
            return
        candidate = self.hosts[message.to]
        view = candidate.view
        if view is None or view.term != message.term or view.role != "candidate":
            return
        mine, theirs = host.log, candidate.log
        if (theirs.terms[-1], theirs.last) < (mine.terms[-1], mine.last):
            raise self.fail(
                f"{host.name}, whose log ends at {mine.last} of term {mine.terms[-1]}, votes for "
                f"{message.to}, whose log ends at {theirs.last} of term {theirs.terms[-1]}."
            )
        assert host.view is not None
        commit = host.view.commit
        if theirs.last < commit or theirs.chain[commit] != mine.chain[commit]:
            raise self.fail(
                f"{host.name} votes for {message.to} in term {message.term}, who lacks what it "
                f"knows to be committed up to {commit}."
            )
