"""The names of the views, for the command line: it must not load them all to refuse a wrong one."""

NAMES = (
    "overview",
    "peers",
    "training",
    "data",
    "jobs",
    "activity",
    "events",
    "alerts",
    "settings",
    "prompt",
)
