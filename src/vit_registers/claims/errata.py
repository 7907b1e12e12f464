"""All that published numbers say about published claims, without any model."""

import importlib
import pkgutil

from vit_registers.claims import arithmetic, ledger, published
from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import Entries, Judge, judges_in
from vit_registers.claims.ledger import Claim


def judges() -> list[Judge]:
    """Every judge: of every module in ``published``, and in ``arithmetic``."""
    names = [
        module.name
        for package in (published, arithmetic)
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ]
    modules = [importlib.import_module(name) for name in names]
    return [judge for module in modules for judge in judges_in(module)]


def _all(claims: list[Claim] | None) -> tuple[Entries, list[Finding]]:
    entries = Entries(ledger.load() if claims is None else claims)
    return entries, [finding for judge in judges() for finding in judge.findings(entries)]


def findings(claims: list[Claim] | None = None) -> list[Finding]:
    """A finding for each claim that can be judged from what is printed, in the order of ``claims`` (the ledger)."""
    entries, found = _all(claims)
    order = {entry.id: place for place, entry in enumerate(entries)}
    return sorted((finding for finding in found if not finding.sentence), key=lambda finding: order[finding.claim])


def beyond_the_ledger(claims: list[Claim] | None = None) -> list[Finding]:
    """Findings on sentences that the ledger has no entry for; each quotes its sentence."""
    return [finding for finding in _all(claims)[1] if finding.sentence]
