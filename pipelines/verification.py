"""`cardline verify`: every promise that can be checked from what is written, one line each."""

from collections.abc import Iterator

from pipelines.checks import CheckResult


def verify_all() -> Iterator[CheckResult]:
    """Ledger, closes, reconciliations, feature parity and model files, each as it is known."""
    from pipelines.finance.periods import verify_periods
    from pipelines.finance.reconciliation import verify_reconciliations
    from pipelines.rewards.verification import verify_ledger

    for part in (verify_ledger, verify_periods, verify_reconciliations):
        yield from part()
    yield _parity()
    yield _model_files()


def _parity() -> CheckResult:
    from pipelines.features.filled import is_filled
    from pipelines.features.parity import parity
    from pipelines.features.registry import load_definitions

    mismatches = parity()
    if not is_filled(load_definitions().views):
        behind = "the online store is not as it was published last: run `cardline run`"
        return CheckResult("feature parity", False, behind)
    detail = "online equals offline in the sample"
    if mismatches.height:
        detail = f"{mismatches.height} values differ, e.g. {mismatches.row(0, named=True)}"
    return CheckResult("feature parity", mismatches.is_empty(), detail)


def _model_files() -> CheckResult:
    from models.common.errors import ModelError
    from pipelines.registry_view import MODELS
    from pipelines.training import registry

    versions = [
        (name, version)
        for name in MODELS
        for version, state in registry().states(name).items()
        if state != "RETIRED"
    ]
    for name, version in versions:
        try:
            registry().checked(name, version)
        except ModelError as error:
            return CheckResult("model files", False, str(error))
    return CheckResult("model files", True, f"{len(versions)} are what was registered")
