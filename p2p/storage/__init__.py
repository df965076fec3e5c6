"""What a peer keeps on its disk: log, snapshots, keys; and how it mends or moves them."""
