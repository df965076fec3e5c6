"""Named ways to break the product, each of which the simulator must notice.

A mutant replaces one piece of source text. It is put in place before anything of the product is
imported, in a process of its own, so the product knows nothing of it.
"""

from tools.sim.mutants.core import CORE
from tools.sim.mutants.mutant import Mutant
from tools.sim.mutants.peer import PEER

MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in (*CORE, *PEER)}
