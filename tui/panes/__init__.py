"""The panes that views are made of: pure, from a scene to lines."""
