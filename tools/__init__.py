"""Programs for developers, run from the checkout: python -m tools.NAME."""
