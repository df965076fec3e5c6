"""Ring collectives over PUSH/PULL: pure schedules, and the sockets that carry them."""
