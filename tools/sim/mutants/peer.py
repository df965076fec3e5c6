"""Mutants of p2p/."""

from tools.sim.mutants.mutant import Mutant

PEER: tuple[Mutant, ...] = ()
