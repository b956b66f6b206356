"""Merchants, fixed by the seed: how many accounts there are does not change them.

Merchants of a category in a city lie next to each other, so that choosing one is arithmetic.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.world.clock import DAY, HOUR, Window, instants, weekly_delivery
from pipelines.sources.world.draws import Bools, Draws, Floats, Ints
from pipelines.sources.world.identifiers import Identifiers


@dataclass(frozen=True, slots=True)
class City:
    """A place with merchants. `weight` is its share of customers (none abroad)."""

    name: str
    state: str
    postal_prefix: str
    country: str
    latitude: float
    longitude: float
    weight: float


CITIES: tuple[City, ...] = (
    City("Seattle", "WA", "981", "US", 47.61, -122.33, 0.07),
    City("Portland", "OR", "972", "US", 45.52, -122.68, 0.05),
    City("Oakland", "CA", "946", "US", 37.80, -122.27, 0.09),
    City("San Diego", "CA", "921", "US", 32.72, -117.16, 0.08),
    City("Phoenix", "AZ", "850", "US", 33.45, -112.07, 0.08),
    City("Denver", "CO", "802", "US", 39.74, -104.99, 0.08),
    City("Austin", "TX", "787", "US", 30.27, -97.74, 0.10),
    City("Chicago", "IL", "606", "US", 41.88, -87.63, 0.12),
    City("Atlanta", "GA", "303", "US", 33.75, -84.39, 0.10),
    City("Columbus", "OH", "432", "US", 39.96, -83.00, 0.08),
    City("Boston", "MA", "021", "US", 42.36, -71.06, 0.08),
    City("Tampa", "FL", "336", "US", 27.95, -82.46, 0.07),
    City("Toronto", "", "", "CA", 43.65, -79.38, 0.0),
    City("London", "", "", "GB", 51.51, -0.13, 0.0),
    City("Cancun", "", "", "MX", 21.16, -86.85, 0.0),
)
HOME_CITIES = np.array([n for n, city in enumerate(CITIES) if city.country == "US"])
FOREIGN_CITIES = np.array([n for n, city in enumerate(CITIES) if city.country != "US"])
ONLINE = len(CITIES)
"""The place of merchants that sell at a distance only."""


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of spending: `median` in cents, `remote` the share bought at a distance."""

    name: str
    mccs: tuple[str, ...]
    weight: float
    median: float
    sigma: float
    remote: float = 0.0
    refunds: float = 0.0
    per_city: int = 3
    is_abroad_too: bool = False
    hour: float = 17.0


CATEGORIES: tuple[Category, ...] = (
    Category("grocery", ("5411",), 0.200, 4_200, 0.60, 0.06, 0.012, 5, True),
    Category("gas", ("5541", "5542"), 0.100, 3_800, 0.35, 0.0, 0.0, 4, False, 15.5),
    Category("restaurant", ("5812",), 0.140, 3_200, 0.60, 0.03, 0.0, 6, True, 20.5),
    Category("fast_food", ("5814",), 0.130, 1_100, 0.45, 0.10, 0.0, 5, True, 18.0),
    Category("pharmacy", ("5912",), 0.050, 1_900, 0.60, 0.05, 0.015, 3),
    Category("department", ("5311", "5310"), 0.055, 5_800, 0.80, 0.30, 0.10, 3, True, 18.5),
    Category("clothing", ("5651", "5691"), 0.045, 5_500, 0.70, 0.40, 0.13, 3, True, 18.5),
    Category("electronics", ("5732",), 0.020, 16_000, 0.90, 0.45, 0.08, 2, True, 18.0),
    Category("home_improvement", ("5200",), 0.025, 7_000, 0.80, 0.15, 0.08, 2),
    Category("entertainment", ("7832", "7922"), 0.030, 2_600, 0.50, 0.40, 0.01, 2, True, 22.0),
    Category("health", ("8011", "8021"), 0.020, 9_000, 0.70, 0.10, 0.0, 2),
    Category("airline", ("4511", "3058"), 0.012, 29_000, 0.50, 1.0, 0.06, 6),
    Category("lodging", ("7011", "3501"), 0.010, 21_000, 0.55, 0.30, 0.03, 2, True),
    Category("marketplace", ("5999", "5942", "5964"), 0.095, 3_600, 0.80, 1.0, 0.09, 30),
    Category("digital", ("5815", "5816", "5818"), 0.050, 900, 0.60, 1.0, 0.01, 18),
    Category("ride", ("4121",), 0.040, 1_700, 0.50, 1.0, 0.0, 4, False, 22.0),
    Category("utilities", ("4900", "4814"), 0.028, 8_500, 0.45, 1.0, 0.0, 16),
    Category("rent", ("6513",), 0.002, 140_000, 0.30, 1.0, 0.0, 6),
    Category("tax", ("9311",), 0.001, 60_000, 0.80, 1.0, 0.0, 2),
    Category("cash", ("6011",), 0.010, 10_000, 0.50, 0.0, 0.0, 3, True),
    Category("quasi_cash", ("6051", "4829", "7995"), 0.005, 9_000, 0.70, 1.0, 0.0, 8),
)
CATEGORY = {category.name: number for number, category in enumerate(CATEGORIES)}
_NAMES = ("Harbor", "Cedar", "Union", "Golden", "Summit", "River", "Maple", "Liberty", "Blue",
          "Corner", "Grand", "Sunset", "Prairie", "Beacon", "Willow", "Iron")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Merchants:
    """All merchants by number; `start` and `size` find those of a category in a place."""

    identifiers: pl.Series
    names: pl.Series
    mcc: pl.Series
    category: Ints
    city: Ints
    country: pl.Series
    latitude: Floats
    longitude: Floats
    partner: pl.Series
    start: Ints
    size: Ints
    partner_number: Ints
    """Merchant of a program's partner in a place, programs × places; −1 where it has none."""
    renamed_on: Ints
    """Day on which a merchant changes its name; −1 for most."""

    def choose(self, category: Ints, place: Ints, popularity: Floats, favourite: Ints) -> Ints:
        """Merchant numbers; `popularity` (uniform) prefers few, which ones `favourite` shifts."""
        size = self.size[category, place]
        rank = np.floor(popularity**1.8 * size).astype(np.int64)
        return self.start[category, place] + (rank + favourite) % np.maximum(size, 1)

    def exists(self, category: Ints, place: Ints) -> Bools:
        """Whether a category has merchants in a place."""
        return self.size[category, place] > 0


def build_merchants(seed: int, window: Window, partners: tuple[tuple[str, str] | None, ...]):
    """All merchants; `partners` gives each program's (partner, category) or None."""
    start = np.zeros((len(CATEGORIES), ONLINE + 1), np.int64)
    size = np.zeros_like(start)
    rows: list[tuple[int, int]] = []
    for number, category in enumerate(CATEGORIES):
        places = [ONLINE]
        if category.remote < 1.0:
            places = [n for n, c in enumerate(CITIES) if c.weight > 0 or category.is_abroad_too]
            places += [ONLINE] if category.remote > 0 else []
        for place in places:
            start[number, place] = len(rows)
            size[number, place] = category.per_city
            rows += [(number, place)] * category.per_city
    category_of = np.array([row[0] for row in rows], np.int64)
    city_of = np.array([row[1] for row in rows], np.int64)
    index = np.arange(len(rows), dtype=np.int64)
    draws = Draws(seed, "merchants")
    offset = Draws(seed, "merchants/offset")
    partner = np.full(len(rows), "", dtype=object)
    partner_number = np.full((len(partners), ONLINE + 1), -1, np.int64)
    for program, owned in enumerate(partners):
        if owned is None:
            continue
        for place in range(ONLINE + 1):
            if size[CATEGORY[owned[1]], place]:
                merchant = start[CATEGORY[owned[1]], place]
                partner_number[program, place] = merchant
                partner[merchant] = owned[0]
    mcc_pick = draws.bits(index, 1).astype(np.int64) & 0xFFFF
    mccs = [
        CATEGORIES[c].mccs[m % len(CATEGORIES[c].mccs)]
        for c, m in zip(category_of, mcc_pick, strict=True)
    ]
    name_pick = draws.bits(index, 2).astype(np.int64) & 0xFFFF
    names = [
        f"{_NAMES[n % len(_NAMES)]} {CATEGORIES[c].name.replace('_', ' ').title()}"
        if not owner
        else f"{owner.title()} {CATEGORIES[c].name.title()}"
        for n, c, owner in zip(name_pick, category_of, partner, strict=True)
    ]
    is_online = city_of == ONLINE
    where = np.where(is_online, 0, city_of)
    latitudes = np.array([city.latitude for city in CITIES])[where]
    longitudes = np.array([city.longitude for city in CITIES])[where]
    countries = np.array([city.country for city in CITIES], dtype=object)[where]
    # A fifth of what sells at a distance sells from abroad.
    abroad = is_online & draws.happens(0.2, index, 3) & (partner == "")
    countries = np.where(abroad, np.array(["GB", "HK", "CA"], dtype=object)[index % 3], countries)
    renamed = draws.happens(0.03, index, 4)
    renamed_on = window.first + draws.integers(window.days // 4, max(window.days, 2), index, 5)
    return Merchants(
        identifiers="mer_" + Identifiers(seed).of("merchant", index),
        names=pl.Series(names),
        mcc=pl.Series(mccs),
        category=category_of,
        city=city_of,
        country=pl.Series(countries.tolist(), dtype=pl.String),
        latitude=latitudes + np.where(is_online, 0, offset.normal(index, 1) * 0.06),
        longitude=longitudes + np.where(is_online, 0, offset.normal(index, 2) * 0.06),
        partner=pl.Series([name or None for name in partner], dtype=pl.String),
        start=start,
        size=size,
        partner_number=partner_number,
        renamed_on=np.where(renamed, renamed_on, -1),
    )


def merchant_rows(merchants: Merchants, window: Window) -> pl.DataFrame:
    """Rows of the `merchants` feed: the master on the first day, weekly files with new names."""
    count = len(merchants.mcc)
    is_online = merchants.city == ONLINE
    cities = [None if place == ONLINE else CITIES[place].name for place in merchants.city]
    master = pl.DataFrame(
        {
            "merchant_id": merchants.identifiers,
            "updated_at": instants(np.full(count, (window.first - 30) * DAY)),
            "name": merchants.names,
            "mcc": merchants.mcc,
            "country": merchants.country,
            "city": pl.Series(cities, dtype=pl.String),
            "latitude": pl.Series(values=merchants.latitude).set(pl.Series(is_online), None),
            "longitude": pl.Series(values=merchants.longitude).set(pl.Series(is_online), None),
            "partner_id": merchants.partner,
            "received_at": instants(np.full(count, window.first * DAY + HOUR // 2)),
        }
    )
    changed = np.flatnonzero(merchants.renamed_on >= 0)
    moments = merchants.renamed_on[changed] * DAY + 9 * HOUR
    renamed = master[changed].with_columns(
        pl.col("name") + pl.lit(" & Co"),
        updated_at=instants(moments),
        received_at=instants(weekly_delivery(moments)),
    )
    return pl.concat([master, renamed])
