"""How each format is read: a file each, and its line in p2p.datasets.formats."""
