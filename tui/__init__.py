"""p2ptui: a terminal screen that attaches to any peer."""
