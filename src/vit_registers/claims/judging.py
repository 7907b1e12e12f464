"""Judges of single claims: how they are declared, found and run, and what they read of the ledger."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType

from vit_registers.claims.finding import Finding, Verdict
from vit_registers.claims.ledger import Claim
from vit_registers.core.errors import InputError


class Entries:
    """The claims of a ledger by id: judges cite numbers from here and never type them."""

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._claims = {claim.id: claim for claim in claims}

    def __iter__(self) -> Iterator[Claim]:
        """All claims in the order of the ledger."""
        return iter(self._claims.values())

    def claim(self, claim: str) -> Claim:
        """The entry; :class:`InputError` names an id that is not there."""
        if claim not in self._claims:
            raise InputError(f"ledger: no claim {claim}, which a judgement cites; add it or correct the judgement")
        return self._claims[claim]

    def number(self, claim: str) -> float:
        """Its value; :class:`InputError` where it has none."""
        value = self.claim(claim).value
        if value is None:
            raise InputError(f"ledger: {claim} has no value, but a judgement computes with it")
        return float(value)

    def setting(self, claim: str) -> str:
        """Its text value; :class:`InputError` where it has none."""
        setting = self.claim(claim).setting
        if setting is None:
            raise InputError(f"ledger: {claim} has no setting, but a judgement reads it")
        return setting

    def passage(self, claim: str) -> str:
        """Its statement with the place in the source."""
        entry = self.claim(claim)
        return f"{entry.where}: {entry.statement}"


@dataclass(frozen=True)
class Judge:
    """What judges one claim, or several claims alike. ``sentence``: quoted where the ledger has no such claim."""

    claims: tuple[str, ...]
    find: Callable[[str, Entries], Finding]
    sentence: str = ""

    def findings(self, entries: Entries) -> list[Finding]:
        """A finding for each of its claims."""
        if not self.sentence:
            for claim in self.claims:
                entries.claim(claim)
        return [self._finding(claim, entries) for claim in self.claims]

    def _finding(self, claim: str, entries: Entries) -> Finding:
        found = self.find(claim, entries)
        computed = found.computed if isinstance(found.computed, str) else round(found.computed, 6)
        return replace(found, computed=computed, sentence=self.sentence)


def judges(*claims: str, sentence: str = "") -> Callable[[Callable[[str, Entries], Finding]], Judge]:
    """Make a function ``(claim, entries) -> Finding`` the judge of ``claims``; being in a module is being found."""
    return lambda find: Judge(claims, find, sentence)


def disagreement(claim: str, verdict: Verdict, reason: str, *, cites: str = "", says: str = "") -> Judge:
    """The judge of a claim that no number decides.

    Its computation puts the claim beside the passage that disagrees: of another claim of the ledger (``cites``), or in
    words with its place (``says``).
    """

    def find(claim: str, entries: Entries) -> Finding:
        other = entries.passage(cites) if cites else says
        return Finding(claim, verdict, "no number", f"{entries.passage(claim)} || {other}", reason)

    return Judge((claim,), find)


def judges_in(module: ModuleType) -> list[Judge]:
    """All judges that a module defines: functions, and tuples of disagreements."""
    found: list[Judge] = []
    for content in vars(module).values():
        members = content if isinstance(content, tuple) else (content,)
        found += [member for member in members if isinstance(member, Judge)]
    return found


def agree(computed: float, printed: float, decimals: int, summands: int = 1) -> bool:
    """Whether ``computed`` is ``printed`` as far as ``decimals`` tell; each rounded summand adds half a last digit."""
    return abs(computed - printed) <= summands * 0.5 * 10.0**-decimals + 1e-9


def held(true: bool) -> Verdict:
    """The verdict of a test that decides."""
    return "reproduced" if true else "contradicted"


def mostly(tests: Iterable[bool]) -> Verdict:
    """``reproduced`` if all hold, ``contradicted`` if none does, else ``inconclusive``."""
    outcomes = list(tests)
    return "reproduced" if all(outcomes) else "inconclusive" if any(outcomes) else "contradicted"


def smallest_test_set(accuracies: Iterable[float], decimals: int = 4, largest: int = 1000) -> int:
    """The smallest number of images of which all printed accuracies are shares; 0 if there is none to ``largest``."""
    printed = list(accuracies)
    for images in range(1, largest + 1):
        if all(agree(round(accuracy * images) / images, accuracy, decimals) for accuracy in printed):
            return images
    return 0


def listed(values: Iterable[float], decimals: int = 2, sign: bool = False) -> str:
    """Numbers for a computation, ``-0.0`` never."""
    return ", ".join(
        f"{value if round(value, decimals) else 0.0:{'+' if sign else ''}.{decimals}f}" for value in values
    )


def mean(values: Iterable[float]) -> float:
    """Their mean."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)
