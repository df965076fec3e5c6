"""Raft as a pure state machine: no clock, no sockets, no disk, no global randomness."""
