from consensus.messages import Message, MessageType
from tools.sim.checks.base import Check
from tools.sim.host import Host


class TermDiscipline(Check):
    """No entry is on disk before its term is; nobody speaks for a term it has not reached."""

    name = "11/12 term before log, term before message"

    def on_stepped(self, host: Host, message: Message, silence: int) -> None:
        """A question whether an election could be won must not cost anybody a term or a vote, nor
        pass for a sign of life of a leader (hashicorp/raft#609).
        """
        if message.type is not MessageType.PRE_VOTE:
            return
        if silence:
            raise self.fail(
                f"{host.name} counts a pre-vote of {message.sender} as having heard of a leader."
            )
        now, before = host.look(), host.view
        assert before is not None
        if (now.term, now.vote, now.role) != (before.term, before.vote, before.role):
            raise self.fail(
                f"{host.name} goes from term {before.term} to {now.term} because {message.sender} "
                f"asked for a pre-vote."
            )

    def on_applied(self, host: Host) -> None:
        disk = host.durable
        if disk.log.terms[-1] > disk.term:
            raise self.fail(
                f"{host.name} has an entry of term {disk.log.terms[-1]} on disk, but only term "
                f"{disk.term}."
            )

    def on_send(self, host: Host, message: Message) -> None:
        view = host.view
        assert view is not None
        # A pre-vote asks about, and a granted pre-vote answers for, the term after its own.
        ahead = message.type is MessageType.PRE_VOTE or (
            message.type is MessageType.PRE_VOTE_RESP and not message.reject
        )
        if message.term > view.term and not ahead:
            raise self.fail(
                f"{host.name}, in term {view.term}, sends {message.type} of term {message.term}."
            )
