"""Books from landing files: what money goes through, without features and models."""

from dataclasses import dataclass

import polars as pl
import pytest

from pipelines.finance.reconciliation import reconcile
from pipelines.finance.reconciliations import CHAIN
from pipelines.ingestion.load import ingest
from pipelines.rewards.accrual import accrue
from pipelines.settings import Settings, get_settings
from pipelines.transform import dbt
from pipelines.warehouse import connect


@dataclass
class Books:
    """A home that works as the environment's while it is built."""

    settings: Settings

    def build(self) -> None:
        """From what has landed to reconciled books."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CARDLINE_HOME", str(self.settings.home))
            get_settings.cache_clear()
            ingest()
            dbt(["run", "--select", "staging", "intermediate", "marts"])
            accrue()
            dbt(["run", "--select", "finance"])
            reconcile()
        get_settings.cache_clear()

    def frame(self, query: str, parameters: tuple[object, ...] = ()) -> pl.DataFrame:
        with connect(read_only=True, settings=self.settings) as con:
            return con.execute(query, parameters).pl()

    def exceptions(self) -> pl.DataFrame:
        """Those of the chain, not the cases that the rewards engine puts forward."""
        types = [f"{link.recon_id}/{name}" for link in CHAIN for name in link.types]
        return self.frame(
            "select *, recon_id || '/' || type as kind from finance.exceptions "
            "where list_contains(?, recon_id || '/' || type) order by exception_id",
            (types,),
        )
