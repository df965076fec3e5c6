"""Mutants of consensus/."""

from tools.sim.mutants.mutant import Mutant

CORE: tuple[Mutant, ...] = ()
