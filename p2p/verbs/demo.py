"""demo: placeholder until the scenario runner lands."""

VERBS = ()
