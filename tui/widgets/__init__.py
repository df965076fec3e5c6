"""Textual widgets: they turn lines (tui/scene.py) into strips and hold a cursor, nothing more."""
