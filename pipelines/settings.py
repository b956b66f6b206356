"""Every setting of the platform: environment variables with the prefix `CARDLINE_`.

Nothing else in the code reads the environment for configuration.
"""

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipelines.errors import CardlineError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

PACKAGE_DIR = Path(__file__).resolve().parent
PROJECT_DIR = PACKAGE_DIR.parent


class Settings(BaseSettings):
    """The settings of one home; folders derive from `home`."""

    model_config = SettingsConfigDict(env_prefix="CARDLINE_", frozen=True, extra="ignore")

    home: Path = Field(Path(".cardline"), description="Holds everything that the platform writes.")
    landing: Path | None = Field(
        None, description="Where delivered files are; default `landing` in the home."
    )
    programs: Path = Field(
        PACKAGE_DIR / "rewards" / "programs", description="Folder of reward program terms (YAML)."
    )
    threads: int | None = Field(
        None, ge=1, description="Cores that DuckDB may use in each process; default all."
    )
    partitions_start_on: date = Field(
        date(2000, 1, 1), description="First batch date that a daily partition exists for."
    )
    max_bad_row_share: float = Field(
        0.01, ge=0, le=1, description="A file with a greater share of bad rows waits whole."
    )
    token_key: SecretStr | None = Field(
        None,
        description="Key of the tokens that replace card and social security numbers. Without it "
        "a random key is made once and kept in the home, readable by its owner only.",
    )
    online_store: Literal["sqlite", "redis"] = Field(
        "sqlite", description="Where online features live."
    )
    redis_url: str = Field(
        "localhost:6379",
        pattern=r"^[^\s,/@=:]+:\d{1,5}(,\w+=[^,]*)*$",
        description="`host:port[,option=value]` of the Redis.",
    )
    registry_url: SecretStr | None = Field(
        None,
        description="URL (`postgresql://user:password@host/database`) of the database that keeps "
        "Feast's registry; default a file in the home.",
    )
    serve_token: SecretStr | None = Field(
        None,
        description="Bearer token of the feature server that opens everything; beyond loopback it "
        "or a token of `cardline tokens` is required.",
    )
    serve_deadline_ms: int = Field(
        1_000, ge=1, description="Milliseconds that the feature server waits for the online store."
    )
    serve_requests_per_second: int = Field(
        5_000, ge=0, description="Requests of one client that the feature server takes; 0: all."
    )
    online_refresh_minutes: int = Field(
        1_440,
        ge=0,
        description="Minutes between two materialisations of the online store, from midnight (UTC) "
        "on: training rows and scores of transactions see what the last one before them had "
        "written. 0: every authorization is pushed as it is decided.",
    )
    issuer_country: str = Field(
        "US",
        pattern="^[A-Z]{2}$",
        description="Country in which the cards are issued (ISO 3166): a purchase at a merchant of "
        "another is cross-border.",
    )
    performance_months: int = Field(
        12, ge=1, le=36, description="Months on book after which an account's outcome is known."
    )
    label_delay_days: int = Field(
        7, ge=0, description="Days between a transaction and the labels that training may use."
    )
    label_maturity_days: int = Field(
        120, ge=0, description="Age at which a fraud label counts as final."
    )
    alert_budget_per_day: int = Field(
        100, ge=1, description="Fraud alerts that reviewers can work on in a day."
    )

    reason_method: Literal["average", "cutoff"] = Field(
        "average",
        description="Whom principal reasons compare an applicant with: the average of all "
        "applicants, or of those at or slightly above the cut-off.",
    )
    reject_inference: Literal["none", "bureau", "test_cell", "parcelling"] = Field(
        "none",
        description="What underwriting learns of declined applicants: nothing; their outcomes at "
        "other lenders; random approvals below the cut-off, who stand for them; or that they are "
        "as bad as expected times a multiplier. With any but none, figures without it stand "
        "beside.",
    )
    reject_multiplier: float = Field(
        1.5, ge=1, le=10, description="How many times worse than expected, for parcelling."
    )
    test_cell_share: float = Field(
        0.1, gt=0, le=1, description="Share of those below the cut-off approved at random."
    )
    fair_lending: Path | None = Field(
        None,
        description="Folder with protected or proxy groups of applicants for optional monitoring, "
        "outside the home; unset, the module is off.",
    )

    chart_of_accounts: Path | None = Field(
        None,
        description="File (YAML) with numbers and names of the general ledger's accounts; default "
        "those of the posting matrix.",
    )
    rate_cards: Path | None = Field(
        None, description="Folder of partners' rate cards (YAML); default none."
    )
    redemption_tail_milli: int = Field(
        1_050,
        ge=1_000,
        description="What is still redeemed after the oldest age observed: the ultimate over the "
        "last, in thousandths.",
    )
    young_cohort_months: int = Field(
        6,
        ge=0,
        description="Cohorts observed for fewer months lean on the approved estimate "
        "(Bornhuetter-Ferguson).",
    )
    acknowledgement_days: int = Field(
        15,
        ge=0,
        description="A partner's acknowledgement of a month's points is late (R7) so many days "
        "after the month's end.",
    )
    materiality_bps: int = Field(
        50,
        ge=0,
        description="Late entries of a closed month worth more than this share of its closing "
        "liability (ten-thousandths) lead to a restatement report.",
    )
    materiality_minor: int = Field(
        1_000_000,
        ge=0,
        description="The same, as an amount in minor units: more than either is material.",
    )
    snapshot_retention_days: int = Field(
        7, ge=0, description="Days that maintenance keeps the warehouse's past states for."
    )

    @field_validator(
        "home",
        "landing",
        "programs",
        "chart_of_accounts",
        "rate_cards",
        "fair_lending",
        mode="before",
    )
    @classmethod
    def _is_named(cls, value: object) -> object:
        if value == "":
            raise ValueError("it is empty: name one, or unset it for the default")
        return value

    @field_validator("home", "landing", "programs", mode="after")
    @classmethod
    def _resolved(cls, value: Path | None) -> Path | None:
        """The warehouse knows its folder by one name: links and `..` lead to the same."""
        path = None if value is None else value.expanduser().resolve()
        if path is not None and path.exists() and not path.is_dir():
            raise ValueError(f"{path} is no folder")
        return path

    @field_validator("chart_of_accounts", "rate_cards", "fair_lending", mode="after")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @property
    def landing_dir(self) -> Path:
        """Folder of delivered files: `<feed>/<batch_date>/<file>`."""
        return self.landing or self.home / "landing"

    @property
    def lake_dir(self) -> Path:
        """The warehouse: catalog, its data files and the raw Parquet files."""
        return self.home / "lake"

    @property
    def raw_dir(self) -> Path:
        """Accepted rows as plain Parquet: `<feed>/batch_date=<date>/<file>.parquet`."""
        return self.lake_dir / "raw"

    @property
    def catalog_path(self) -> Path:
        """SQLite catalog of the DuckLake."""
        return self.lake_dir / "catalog.sqlite"

    @property
    def extensions_dir(self) -> Path:
        """DuckDB's extensions, unpacked from their wheels."""
        return self.home / "duckdb_extensions"

    @property
    def features_dir(self) -> Path:
        """Published feature tables: `<view>/event_date=<day or month>/*.parquet`."""
        return self.home / "features"

    @property
    def feast_dir(self) -> Path:
        """Feast's registry and the embedded online store."""
        return self.home / "feast"

    @property
    def models_dir(self) -> Path:
        """Model registry: `<name>/<version>/`."""
        return self.home / "models"

    @property
    def reports_dir(self) -> Path:
        """Finance packs, `rewards/<program>/<period>/v<n>/`; feature parity, `features/`."""
        return self.home / "reports"

    @property
    def ledger_dir(self) -> Path:
        """Sealed days of the ledger as read-only files: `<program>/<first day>-<seal>.parquet`."""
        return self.home / "ledger"

    @property
    def dagster_dir(self) -> Path:
        """Dagster's instance: run and event storage."""
        return self.home / "dagster"

    @property
    def dbt_target_dir(self) -> Path:
        """dbt's manifest, run results and logs."""
        return self.home / "dbt"

    @property
    def decisions_path(self) -> Path:
        """The decision log of the feature server (SQLite)."""
        return self.home / "decisions" / "decisions.sqlite"

    @property
    def serve_logs_dir(self) -> Path:
        """Audit log of the feature server: `<date>.jsonl`."""
        return self.home / "logs" / "serve"

    @property
    def secrets_dir(self) -> Path:
        """Keys made on first use, readable by their owner only."""
        return self.home / "secrets"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process; `get_settings.cache_clear()` reads the environment anew.

    Raises `CardlineError` with the variables that are wrong and what each may be.
    """
    try:
        return Settings()  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        wrong = "; ".join(map(_told, error.errors(include_url=False)))
        raise CardlineError(f"a setting cannot be used: {wrong}") from None


def _told(problem: "ErrorDetails") -> str:
    name = str(problem["loc"][0])
    if name == "redis_url":
        # Its value may hold a password.
        return "CARDLINE_REDIS_URL: write host:port[,option=value], e.g. redis.internal:6379,db=1"
    return f"CARDLINE_{name.upper()}={problem['input']!r}: {problem['msg']}"
