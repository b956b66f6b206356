"""Everything that was made of a chunk of accounts, before it is told as rows of feeds."""

from dataclasses import dataclass

import polars as pl

from pipelines.sources.world.cards import CardBook
from pipelines.sources.world.clock import Window
from pipelines.sources.world.fraud import Incidents
from pipelines.sources.world.holders import Holders
from pipelines.sources.world.lifecycle import Plans
from pipelines.sources.world.merchants import Merchants
from pipelines.sources.world.servicing import Serviced


@dataclass(frozen=True, slots=True)
class Story:
    """`attempts` lie in the order of holder and time; `plans` and `serviced` are about them."""

    seed: int
    window: Window
    merchants: Merchants
    applications: pl.DataFrame
    holders: Holders
    attempts: pl.DataFrame
    incidents: Incidents
    plans: Plans
    serviced: Serviced
    cards: CardBook
