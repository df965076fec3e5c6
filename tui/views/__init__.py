"""The views of the screen, one file each; catalog.py has the list."""
