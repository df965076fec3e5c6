"""The version, read once from the installed distribution."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("p2pnode")
except PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0+checkout"
