"""Planted faults: small breaches of the machines, each of which the suite must notice.

Rules of this folder:

* A mutant is one exact text of one file, replaced. If the text is not found once, the mutant is
  out of date, and the run fails: mend it, do not drop it.
* ``why`` says which promise it breaks, ``killers`` which test files must fail with it. They are
  few and quick, because a planted fault is for each of them to find by itself.

``tools/mutants.py`` runs them, ``tests/test_mutants.py`` does so in CI.
"""

from __future__ import annotations

from planted import broker, large, overload, peer, shell, simulated
from planted.mutant import Mutant

__all__ = ["MUTANTS", "Mutant", "broker", "large", "overload", "peer", "shell", "simulated"]

MUTANTS: list[Mutant] = [
    *peer.MUTANTS,
    *broker.MUTANTS,
    *large.MUTANTS,
    *overload.MUTANTS,
    *shell.MUTANTS,
    *simulated.MUTANTS,
]
