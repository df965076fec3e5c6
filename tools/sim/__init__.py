"""A seeded simulator of the Raft core: many cores, one thread, one clock, one seed.

After TigerBeetle's VOPR and openraft's turmoil fuzzer: every parameter comes from the seed, the
checks remember the whole run, and a heal phase asks for progress once the faults are gone.
"""
