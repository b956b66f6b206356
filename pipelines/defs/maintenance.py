"""Keeping the lake in order."""

import dagster as dg

from pipelines.defs.common import POOL


@dg.op(
    pool=POOL,
    description="Expire old snapshots, merge small files, remove unused ones; readers may read.",
)
def maintain_lake(context: dg.OpExecutionContext) -> None:
    from pipelines.maintenance import maintain

    done = maintain()
    context.add_output_metadata(
        {
            "snapshots_expired": done.snapshots_expired,
            "files_before": done.files_before,
            "files_after": done.files_after,
            "files_removed": done.files_removed,
        }
    )


@dg.job(description="Housekeeping of the lake, so that reading it stays fast and disk is freed.")
def lake_maintenance() -> None:
    maintain_lake()
