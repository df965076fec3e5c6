"""The version: pyproject.toml takes it from here, so that no start has to look for metadata."""

VERSION = "0.1.0"
