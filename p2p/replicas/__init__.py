"""This peer's replicas: children that answer prompts, started and stopped as the log says."""
