"""What the underwriting models may look at, in which direction, and in whose words.

One entry names a family of features by pattern: the direction in which risk must grow and the
consumer reason for each, so that a new window of a known measure needs no new entry. A feature
that no entry names has no consumer reason and therefore cannot enter a model.
"""

import re
from dataclasses import dataclass

from models.common.errors import ModelError

REASONS_VERSION = 2

_PROHIBITED = (
    r"(^|_)(sex|gender|marital|marriage|married|race|racial|ethnic|ethnicity|religion|colou?r"
    r"|nationality|national|birth|birthday|birthdate|dob|pregnan\w*|child|children|dependents"
    r"|disab\w*|welfare|education|surname|zip|zipcode|postcode|postal|state|latitude|longitude)"
    r"(_|$)",
    r"(^|_)public_assistance(_|$)",
    r"^(applicant|customer|person|member|app|cust)?_?age(_?(years?|y|n|band|group|bucket))?$",
    r"(^|_)aged?_?(over|under|\d+)",
)
PREFIX = "att_"
"""Of the features that are a vendor's attributes."""
_PROHIBITED_PATTERN = re.compile("|".join(_PROHIBITED), re.IGNORECASE)


def prohibited_features(names: list[str] | tuple[str, ...]) -> list[str]:
    """Names that meet a prohibited basis or a close proxy of one, in the given order.

    The age of a tradeline is not the age of a person: `bur_age_oldest_m` is allowed,
    `age` and `birth_year` are not. Education and residence are kept out as proxies. An attribute of
    a vendor is judged by the vendor's name of it.
    """
    return [name for name in names if _PROHIBITED_PATTERN.search(name.removeprefix(PREFIX))]


def refuse_prohibited(names: list[str] | tuple[str, ...]) -> None:
    """Raise ModelError naming every prohibited feature."""
    found = prohibited_features(names)
    if found:
        raise ModelError(
            f"prohibited features in an underwriting model: {', '.join(found)}; remove them from "
            "the feature service"
        )


@dataclass(frozen=True)
class CatalogueEntry:
    """A family of features.

    `direction` is 1 where a higher value is riskier, -1 where it is safer, 0 where the data
    decide. `missing` is the reason where the value is not known, `first_version` the version of
    the feature service that first had it.
    """

    pattern: str
    direction: int
    code: str
    text: str
    missing: tuple[str, str]
    owner: str = "credit risk"
    first_version: str = "v1"

    @property
    def null_meaning(self) -> str:
        """What it says about an applicant that the value is not known."""
        if "mths_since" in self.pattern:
            return "never happened, or no file"
        if self.missing[0] == self.code:
            return "no file"
        return _NULL_MEANINGS[self.missing[0]]


_NULL_MEANINGS = {
    "R02": "no application is known",
    "R04": "income is not known",
    "R23": "income or obligations are not known",
    "R08": "no such history, or the feed had not delivered",
    "R21": "no report was asked for, or the feed does not tell",
    "B09": "no such history on the account",
}
GENERAL_REASON = "R20"
"""Of attributes that the catalogue does not know: too general to tell a consumer."""
_NO_FILE = ("R08", "No credit file or too little credit history")
_NO_INCOME = ("R04", "Unable to verify income")
_NO_AFFORDABILITY = ("R23", "Unable to verify income or credit obligations")
_NO_SOURCE = ("R21", "Unable to verify identity")
_NO_ACCOUNT = ("B09", "Too little history on this account")

CATALOGUE: tuple[CatalogueEntry, ...] = (
    CatalogueEntry(r"bur_file_hit", -1, "R08", _NO_FILE[1], _NO_FILE),
    CatalogueEntry(r"bur_thin_file", 1, "R07", "Limited credit experience", _NO_FILE),
    CatalogueEntry(r"bur_age_newest_m", -1, "R12", "Recently opened accounts", _NO_FILE),
    CatalogueEntry(r"bur_age_\w+", -1, "R07", "Limited credit experience", _NO_FILE),
    CatalogueEntry(r"bur_opened_\w+", 1, "R12", "Recently opened accounts", _NO_FILE),
    CatalogueEntry(
        r"bur_inq_\w+", 1, "R15", "Number of recent inquiries on credit bureau report", _NO_FILE
    ),
    CatalogueEntry(
        r"bur_util_\w+|bur_bc_over90_n",
        1,
        "R13",
        "Proportion of balances to credit limits on revolving accounts is too high",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"bur_(dq\w+|past_due_\w+|worst_status_\w+)",
        1,
        "R09",
        "Delinquent past or present credit obligations with others",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"bur_mths_since_(dq\w+|worst\w*)",
        -1,
        "R09",
        "Delinquent past or present credit obligations with others",
        # Of who never was late nothing of the kind may be said.
        _NO_FILE,
    ),
    CatalogueEntry(
        r"bur_(chargeoffs?|collections?)_\w+", 1, "R10", "Collection action or charge-off", _NO_FILE
    ),
    CatalogueEntry(
        r"bur_public_records?_\w+|bur_bankrupt\w+",
        1,
        "R11",
        "Bankruptcy or public record",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"bur_mths_since_bk\w*",
        -1,
        "R11",
        "Bankruptcy or public record",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"bur_sat_pct", -1, "R16", "Too few accounts currently paid as agreed", _NO_FILE
    ),
    CatalogueEntry(
        r"bur_(pay_ratio|transactor)_\w+",
        -1,
        "R17",
        "Payments on credit obligations are low compared with what is due",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"bur_(bal|util)_slope_\w+",
        1,
        "R18",
        "Balances on credit obligations are growing",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"bur_monthly_debt\w*", 1, "R05", "Excessive obligations in relation to income", _NO_FILE
    ),
    CatalogueEntry(
        r"app_dti\w*", 1, "R05", "Excessive obligations in relation to income", _NO_AFFORDABILITY
    ),
    CatalogueEntry(
        r"bur_(trades|bc|rev)\w*_n",
        0,
        "R06",
        "Number and mix of credit accounts",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"bur_(score|bal|balance|limit)\w*",
        0,
        "R14",
        "Amount owed and available on credit accounts",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"app_line_to_income\w*",
        1,
        "R03",
        "Income insufficient for amount of credit requested",
        _NO_INCOME,
    ),
    CatalogueEntry(
        r"app_residual_income\w*",
        -1,
        "R03",
        "Income insufficient for amount of credit requested",
        _NO_AFFORDABILITY,
    ),
    CatalogueEntry(
        r"app_income\w*|stated_income_minor",
        -1,
        "R03",
        "Income insufficient for amount of credit requested",
        _NO_INCOME,
    ),
    CatalogueEntry(r"app_apps_24h_by_\w+", 1, "R19", "Number of recent applications", _NO_SOURCE),
    CatalogueEntry(
        r"app_device_age_\w+",
        -1,
        "R22",
        "Limited history with the device that the application came from",
        _NO_SOURCE,
    ),
    CatalogueEntry(
        r"app_(count|declined|approved)_\w+|app_\w*count_\w+",
        1,
        "R19",
        "Number of recent applications",
        ("R02", "Credit application incomplete"),
    ),
    CatalogueEntry(
        r"(app_)?months_since_\w*application\w*|app_(days|months|mths)_since_\w+",
        -1,
        "R19",
        "Number of recent applications",
        ("R02", "Credit application incomplete"),
    ),
    CatalogueEntry(r"att_(at20s|bc20s)", -1, "R07", "Limited credit experience", _NO_FILE),
    CatalogueEntry(
        r"att_(at20s|bc20s|at103s|rvlr01|balmag01)_is_\w+",
        1,
        "R07",
        "Limited credit experience",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"att_at36s_is_no_delinquency",
        -1,
        "R09",
        "Delinquent past or present credit obligations with others",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"att_at36s",
        -1,
        "R09",
        "Delinquent past or present credit obligations with others",
        ("R09", "Delinquent past or present credit obligations with others"),
    ),
    CatalogueEntry(r"att_at103s", -1, "R16", "Too few accounts currently paid as agreed", _NO_FILE),
    CatalogueEntry(
        r"att_rvlr01",
        1,
        "R13",
        "Proportion of balances to credit limits on revolving accounts is too high",
        _NO_FILE,
    ),
    CatalogueEntry(
        r"att_balmag01", 0, "R14", "Amount owed and available on credit accounts", _NO_FILE
    ),
    CatalogueEntry(r"att_\w+", 0, GENERAL_REASON, "Credit history in the bureau report", _NO_FILE),
    CatalogueEntry(
        r"beh_util_slope_\w+", 1, "B13", "Balance on this account is growing", _NO_ACCOUNT
    ),
    CatalogueEntry(
        r"beh_util_\w+", 1, "B01", "Balance is high compared with the credit limit", _NO_ACCOUNT
    ),
    CatalogueEntry(
        r"beh_pay_ratio_\w+",
        -1,
        "B02",
        "Payments are low compared with the statement balance",
        _NO_ACCOUNT,
    ),
    CatalogueEntry(r"beh_dpd_\w+", 1, "B03", "Payments on this account were late", _NO_ACCOUNT),
    CatalogueEntry(
        r"beh_missed_\w+|beh_minpay_only_\w+",
        1,
        "B04",
        "Payments on this account were missed or only the minimum",
        _NO_ACCOUNT,
    ),
    CatalogueEntry(
        r"beh_returned_pay_\w+", 1, "B05", "Returned payments on this account", _NO_ACCOUNT
    ),
    CatalogueEntry(r"beh_mob\w*", -1, "B06", "Account opened recently", _NO_ACCOUNT),
    CatalogueEntry(
        r"beh_(cash_adv|overlimit)_\w+",
        1,
        "B07",
        "Cash advances or use above the credit limit",
        _NO_ACCOUNT,
    ),
    CatalogueEntry(
        r"beh_(credit_)?limit\w*", -1, "B08", "Low credit limit on this account", _NO_ACCOUNT
    ),
    CatalogueEntry(
        r"beh_revolver_\w+", 1, "B12", "Balances on this account are carried over", _NO_ACCOUNT
    ),
    CatalogueEntry(r"beh_balance_\w+", 0, "B10", "Balance on this account", _NO_ACCOUNT),
    CatalogueEntry(
        r"amount_\w+|beh_(spend|refund)_\w+",
        0,
        "B11",
        "Purchase activity on this account",
        _NO_ACCOUNT,
    ),
)
_COMPILED = tuple((re.compile(entry.pattern), entry) for entry in CATALOGUE)


def entry_for(feature: str) -> CatalogueEntry | None:
    """The first catalogue entry whose pattern matches the whole name, or none."""
    for pattern, entry in _COMPILED:
        if pattern.fullmatch(feature):
            return entry
    return None
