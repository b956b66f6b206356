"""The month's end: bring the finance tables up to the ledger, reconcile, close, build the pack."""

import dagster as dg

from pipelines.defs.common import POOL


class CloseConfig(dg.Config):
    """Whose month is closed, and by whom; the preparer defaults to the user of the process."""

    program: str
    period: str
    approver: str
    preparer: str | None = None


@dg.op(pool=POOL, description="Finance tables and reconciliations of the ledger as it is now.")
def bring_books_up_to_date() -> None:
    from pipelines.finance.rate_cards import publish_rate_cards
    from pipelines.finance.reconciliation import reconcile
    from pipelines.transform import dbt

    publish_rate_cards()
    dbt(["build", "--select", "finance", "--exclude-resource-type", "unit_test"])
    reconcile()


@dg.op(
    pool=POOL,
    ins={"start": dg.In(dg.Nothing)},
    description="Closes the period and the open ones before it; refused where a check is not green "
    "or the approver is the preparer.",
)
def close_books(context: dg.OpExecutionContext, config: CloseConfig) -> None:
    from pipelines.finance.packs import build_pack
    from pipelines.finance.periods import close_period
    from pipelines.finance.publication import publish_tables

    closed = close_period(config.program, config.period, config.approver, config.preparer)
    pack = build_pack(config.program, config.period)
    publish_tables()
    context.add_output_metadata(
        {
            "closed": ", ".join(each.period for each in closed) or "closed already",
            "pack": dg.MetadataValue.path(f"{pack}/report.html"),
        }
    )


@dg.job(description="Close an accounting period of a program and build its pack as of the seal.")
def month_end_close() -> None:
    close_books(start=bring_books_up_to_date())
