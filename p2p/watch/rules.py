"""Every rule there is without a user's doing. A new one = a function and an entry in one of these.

Pure: what a rule sees is in p2p.watch.facts.
"""

from p2p.watch import rules_agreement, rules_machine, rules_training
from p2p.watch.rule import Rule

BUILT_IN: tuple[Rule, ...] = (
    *rules_agreement.RULES,
    *rules_training.RULES,
    *rules_machine.RULES,
)
