"""Dagster objects and nothing else: what they call is importable and testable without Dagster."""

import warnings

# Beta marks on partitions' backfill policies and on freshness policies would be printed at every
# start; docs/dependencies.md names the versions that they were tested with.
warnings.filterwarnings("ignore", message=".*is currently in (beta|preview).*")
# dagster-dbt 0.29 calls what dagster 1.13 deprecates.
warnings.filterwarnings("ignore", message=".*AssetExecutionContext.op is deprecated.*")
