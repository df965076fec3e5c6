"""Which requests may be asked again without harm: all that a client needs to know of the log."""

# Of what goes into the log (p2p.proposals), these do no harm when they are applied again. All
# others need a session to be asked again safely.
REPEATABLE = frozenset({"join", "leave", "session"})
ONCE = frozenset(
    {
        *("remove", "submit", "pause", "resume", "cancel", "checkpoint", "restore", "set"),
        *("data_register", "data_drop", "serve", "unserve"),
        *("put", "delete", "compare_and_set"),
        *("alert.acknowledge", "event.tell"),
    }
)
# Not in the log, so nothing knows whether it was done before: asked for once, answered or not.
UNGUARDED = frozenset({"add"})
