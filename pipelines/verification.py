"""`cardline verify`: every promise that can be checked from what is written, one line each."""

from pipelines.checks import CheckResult


def verify_all() -> list[CheckResult]:
    """Ledger, closes, reconciliations and feature parity, in that order."""
    from pipelines.features.parity import parity
    from pipelines.finance.periods import verify_periods
    from pipelines.finance.reconciliation import verify_reconciliations
    from pipelines.rewards.verification import verify_ledger

    mismatches = parity()
    detail = "online equals offline in the sample"
    if mismatches.height:
        detail = f"{mismatches.height} values differ, e.g. {mismatches.row(0, named=True)}"
    return [
        *verify_ledger(),
        *verify_periods(),
        *verify_reconciliations(),
        CheckResult("feature parity", mismatches.is_empty(), detail),
    ]
