"""The page of a finance pack: one HTML file that needs nothing beside itself."""

from typing import Any

from pipelines.finance.charts import heat_map, trend, waterfall
from pipelines.finance.pack_data import FLOWS, PackData
from pipelines.finance.reconciliations import CHAIN
from pipelines.finance.units import MINUS, Unit
from pipelines.pages import style, template

TEXT, NUMBER, CODE = "text", "number", "code"
MAX_CATEGORIES = 12
TREND_MONTHS = 13
HEAT_COHORTS = 18

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

BASES = {
    "AS_IT_STANDS": "as it stands",
    "AS_CLOSED": "as it was closed",
    "AS_KNOWN": "as it was known at the time",
    "RESTATED": "restated: late entries in the month that they take effect in",
}

_SOURCES = {
    "ACCRUAL": "Accrual",
    "PROVISION": "Breakage provision",
    "CLAWBACK": "Clawback",
    "PROVISION_REVERSAL": "Provision on clawbacks",
    "REDEMPTION": "Redemption",
    "TRANSFER": "Transfer",
    "EXPIRY": "Expiry",
    "FORFEITURE": "Forfeiture",
    "ADJUSTMENT": "Adjustment",
    "WRITE_OFF": "Members' debts written off",
    "REVALUATION": "New value per point",
    "REESTIMATE": "Breakage re-estimate",
    "NEGATIVE_BALANCES": "Balances below zero",
    "PARTNER_SHARE": "Partner's share and bounties",
    "PARTNER_FUNDS": "Partner's contributions",
}

_EVENTS = {
    "ACCRUAL": "Accrual",
    "CLAWBACK": "Clawback",
    "REDEMPTION": "Redemption",
    "RESERVATION": "Reserved for a redemption",
    "REDEMPTION_CANCEL": "Redemption cancelled",
    "TRANSFER": "Transfer to the partner",
    "EXPIRY": "Expiry",
    "FORFEITURE": "Forfeiture",
    "ADJUSTMENT": "Adjustment",
    "WRITE_OFF": "Debt written off",
}


def render_charts(data: PackData) -> dict[str, str]:
    """The SVG charts of the page by their name in the template."""
    money, month = data.money, data.month
    steps = [("Opening", float(money.decimal(month["opening_minor"])), True)]
    for column, label, sign in FLOWS:
        amount = sign * month[f"{column}_minor"]
        if amount:
            steps.append((label, float(money.decimal(amount)), False))
    steps.append(("Closing", float(money.decimal(month["closing_minor"])), True))
    months = []
    for row in data.rollforward.tail(TREND_MONTHS).iter_rows(named=True):
        flows = [sign * row[f"{column}_minor"] for column, _, sign in FLOWS]
        months.append(
            {
                "period": row["period"],
                "closing": float(money.decimal(row["closing_minor"])),
                "added": float(money.decimal(sum(flow for flow in flows if flow > 0))),
                "taken": float(money.decimal(sum(flow for flow in flows if flow < 0))),
            }
        )
    cohorts = data.redemption.cohorts["cohort"].tail(HEAT_COHORTS).to_list()
    cells = [
        {"cohort": row["cohort"], "age": row["age"], "share": row["redeemed_micros"] / 1_000_000}
        for row in data.redemption.emergence.iter_rows(named=True)
        if row["cohort"] in cohorts
    ]
    return {
        "waterfall": waterfall(steps, money.name, "waterfall"),
        "trend": trend(months, money.name, "trend"),
        "heat_map": heat_map(cells, "heat") if cells else "",
    }


def render_html(data: PackData, charts: dict[str, str], version: int, content_sha256: str) -> str:
    """The page as text."""
    return template("report.html").render(
        style=style(),
        **charts,
        **_page(data),
        version=version,
        content_sha256=content_sha256,
    )


def _row(*cells: Any, kind: str = "") -> dict[str, Any]:
    return {"cells": [str(cell) for cell in cells], "class": kind}


def _count(number: int) -> str:
    return f"{number:,}"


def _page(data: PackData) -> dict[str, Any]:
    money, points = data.money, data.points
    return {
        "name": data.name,
        "program_id": data.program_id,
        "period": data.period,
        "month_name": f"{_MONTHS[data.starts_on.month - 1]} {data.starts_on.year}",
        "state": data.state,
        "ends_on": data.ends_on.isoformat(),
        "known_at": data.known_at.isoformat(" ", "seconds") + " UTC",
        "basis": BASES[data.basis],
        "period_version": data.period_version,
        **_close(data),
        **_redemption(data),
        **_expiry(data),
        "money_name": money.name,
        "points_name": points.name,
        "cards": _cards(data),
        **_rollforward(data),
        **_decisions(data),
        **_ledger(data),
        **_evidence(data),
        "notes": _notes(data),
    }


def rewards_cost_minor(month: dict[str, Any]) -> int:
    """What a month of the roll-forward cost, before what the partner funds (minor units)."""
    return (
        month["accrued_minor"]
        - month["clawed_back_minor"]
        + month["adjusted_minor"]
        - month["provision_minor"]
        - month["reestimate_minor"]
    )


def _cards(data: PackData) -> list[dict[str, str]]:
    money, points, month = data.money, data.points, data.month
    change = month["closing_minor"] - month["opening_minor"]
    cost = rewards_cost_minor(month)
    accrued = month["accrued_points"] or 0
    breaks = int(data.reconciliations["breaks"].sum() or 0)
    runs = data.reconciliations.height
    open_breaks, open_cases = _open_exceptions(data)
    agreement = (
        "all agree" if runs and not breaks else (f"{breaks:,} breaks" if runs else "not run")
    )
    return [
        {
            "label": "Closing liability, face",
            "figure": money.text(month["closing_minor"]),
            "note": f"{money.signed(change)} against the month before",
            "class": "",
        },
        {
            "label": "Net of breakage allowance",
            "figure": money.text(month["closing_net_minor"]),
            "note": f"allowance {money.text(month['closing_allowance_minor'])} (estimate)",
            "class": "",
        },
        {
            "label": "Rewards cost of the month",
            "figure": money.text(cost),
            "note": f"for {points.text(accrued)} {points.name} issued, partner's share included",
            "class": "",
        },
        {
            "label": f"{points.name.capitalize()} outstanding",
            "figure": points.text(month["closing_points"]),
            "note": f"{points.signed(month['closing_points'] - month['opening_points'])} "
            "in the month",
            "class": "",
        },
        {
            "label": "Redeemed and transferred",
            "figure": money.text(month["redeemed_minor"] + month["transferred_minor"]),
            "note": f"{points.text(month['redeemed_points'] + month['transferred_points'])} "
            f"{points.name}",
            "class": "",
        },
        {
            "label": "Expired and forfeited",
            "figure": money.text(month["breakage_minor"]),
            "note": f"{points.text(month['expired_points'] + month['forfeited_points'])} "
            f"{points.name}",
            "class": "",
        },
        {
            "label": "Reconciliations",
            "figure": agreement,
            "note": f"{runs} links of the chain, over the days of the month",
            "class": "" if not runs else ("good" if not breaks else "bad"),
        },
        {
            "label": "Open exceptions",
            "figure": _count(open_breaks + open_cases),
            "note": f"{_count(open_breaks)} breaks of the chain, {_count(open_cases)} cases of the "
            "engine, of all programs",
            "class": "bad" if open_breaks + open_cases else "good",
        },
    ]


def _open_exceptions(data: PackData) -> tuple[int, int]:
    """How many open exceptions are breaks of the chain, and how many the engine put forward."""
    breaks = sum(
        row["exceptions"] for row in data.exceptions.iter_rows(named=True) if _is_break(row)
    )
    return breaks, int(data.exceptions["exceptions"].sum() or 0) - breaks


def _is_break(row: dict[str, Any]) -> bool:
    return any(row["recon_id"] == link.recon_id and row["type"] in link.types for link in CHAIN)


def _rollforward(data: PackData) -> dict[str, Any]:
    money, points, month, before = data.money, data.points, data.month, data.previous

    def line(label: str, column: str, sign: int = 1, kind: str = "") -> dict[str, Any]:
        previous = sign * before[f"{column}_minor"] if before else None
        return _row(
            label,
            points.text(sign * month[f"{column}_points"]),
            money.text(sign * month[f"{column}_minor"]),
            money.text(previous),
            kind=kind,
        )

    rows = [line("Opening balance", "opening", kind="balance")]
    for column, label, sign in FLOWS:
        rows.append(line(label, column, sign))
    late = data.prior_period
    if late.height:
        rows.append(
            _row(
                "of which for earlier, closed months",
                points.signed(int(late["points"].sum())),
                money.signed(int(late["amount_minor"].sum())),
                "–",
            )
        )
    if month["revalued_minor"]:
        rows.append(
            _row("of which a new value per point", "–", money.text(month["revalued_minor"]), "–")
        )
    rows.append(line("Closing balance", "closing", kind="balance"))
    owed = data.owed
    owing = owed["owed_by_members_points"]
    if owing:
        before_row = data.negative_balances.row(-2, named=True) if before else None
        for label, column, sign in (
            ("of which owed to members (2100)", "owed_to_members", 1),
            ("of which members below zero owe (1220)", "owed_by_members", -1),
        ):
            rows.append(
                _row(
                    label,
                    points.text(sign * owed[f"{column}_points"]),
                    money.text(sign * owed[f"{column}_minor"]),
                    money.text(sign * before_row[f"{column}_minor"] if before_row else None),
                )
            )

    def estimate(label: str, column: str, sign: int = 1, kind: str = "") -> dict[str, Any]:
        return _row(label, money.text(sign * month[f"{column}_minor"]), kind=kind)

    return {
        "rollforward_columns": [
            ("", TEXT),
            (points.name.capitalize(), NUMBER),
            (money.name, NUMBER),
            (f"{money.name}, month before", NUMBER),
        ],
        "rollforward_rows": rows,
        "debt_note": _debt_note(data),
        "allowance_columns": [("", TEXT), (money.name, NUMBER)],
        "allowance_rows": [
            estimate("Opening allowance", "opening_allowance", kind="balance"),
            estimate("Provision on what was issued", "provision"),
            estimate("Expired and forfeited", "breakage", -1),
            estimate("Re-estimate", "reestimate"),
            estimate("Closing allowance", "closing_allowance", kind="balance"),
            estimate("Face", "closing"),
            estimate("Net liability", "closing_net", kind="balance"),
        ],
    }


def _debt_note(data: PackData) -> str:
    """Why members owe points, and why a liability may be below zero; empty where none do."""
    owed, money = data.owed, data.money
    if not owed["owed_by_members_points"]:
        return ""
    below = (
        "The balance is below zero because such debts are more than what the others are owed. "
        if owed["closing_points"] < 0
        else ""
    )
    return (
        f"{below}Members below zero owe {money.text(owed['owed_by_members_minor'])} {money.name}: "
        "points were taken back, for refunds, chargebacks and closures, after they had been "
        "redeemed or sent to the partner. What these members earn next fills that first."
    )


def _worth(data: PackData, points: int) -> int:
    """Minor units that `points` are worth, rounded half away from zero as in the roll-forward."""
    value = int(data.month["point_value_micros"])
    worth = (2 * abs(points) * value + 1_000_000) // 2_000_000
    return worth if points >= 0 else -worth


def _shared_out(points: list[int], total_minor: int) -> list[int]:
    """`total_minor` by `points`, exactly: each gets what rounding the running total adds."""
    whole = sum(points)
    if not whole:
        return [0] * len(points)
    shares, running, given = [], 0, 0
    for part in points:
        running += part
        reached = (2 * running * total_minor + whole) // (2 * whole)
        shares.append(reached - given)
        given = reached
    return shares


def _decisions(data: PackData) -> dict[str, Any]:
    money, points = data.money, data.points

    rules = list(data.decisions.iter_rows(named=True))
    categories = list(data.categories.iter_rows(named=True))
    total_points = sum(row["points"] for row in rules)
    ties = total_points == _moved_points(data)
    cost = (
        data.month["accrued_minor"] - data.month["clawed_back_minor"]
        if ties
        else _worth(data, total_points)
    )
    for rows in (rules, categories):
        for row, share in zip(rows, _shared_out([r["points"] for r in rows], cost), strict=True):
            row["cost_minor"] = share
    shown, rest = categories[:MAX_CATEGORIES], categories[MAX_CATEGORIES:]
    if rest:
        others: dict[str, Any] = {"category": f"{len(rest)} more"}
        for column in ("transactions", "eligible_minor", "points", "cost_minor"):
            others[column] = sum(row[column] for row in rest)
        shown = [*shown, others]
    zeros = list(data.zero_reasons.iter_rows(named=True))
    return {
        "rule_columns": [
            ("Rule", TEXT), ("Version", NUMBER), ("Decisions", NUMBER), ("Earning", NUMBER),
            (f"Eligible, {money.name}", NUMBER), (points.name.capitalize(), NUMBER),
            (f"Cost, {money.name}", NUMBER),
        ],
        "rule_rows": [
            _row(
                row["rule_id"], row["rule_version"], _count(row["decisions"]),
                _count(row["eligible_decisions"]), money.text(row["eligible_minor"]),
                points.text(row["points"]), money.text(row["cost_minor"]),
            )
            for row in rules
        ],
        "rule_total": [
            "All rules", "", _count(sum(row["decisions"] for row in rules)),
            _count(sum(row["eligible_decisions"] for row in rules)),
            "", points.text(total_points), money.text(cost),
        ],
        "rule_tie": _tie(data, total_points),
        "category_columns": [
            ("Category", TEXT), ("Transactions", NUMBER), (points.name.capitalize(), NUMBER),
            (f"Cost, {money.name}", NUMBER),
        ],
        "category_rows": [
            _row(
                str(row["category"]).replace("_", " "), _count(row["transactions"]),
                points.text(row["points"]), money.text(row["cost_minor"]),
            )
            for row in shown
        ],
        "category_total": [
            "All categories", "", points.text(sum(row["points"] for row in categories)),
            money.text(sum(row["cost_minor"] for row in categories)),
        ],
        "zero_columns": [
            ("Reason", TEXT), ("Decisions", NUMBER), ("Events", NUMBER),
        ],
        "zero_rows": [
            _row(
                row["zero_reason"].replace("_", " ").lower(), _count(row["decisions"]),
                _count(row["events"]),
            )
            for row in zeros
        ],
        "zero_total": [
            "All", _count(sum(row["decisions"] for row in zeros)), "",
        ],
    }  # fmt: skip


def _moved_points(data: PackData) -> int:
    """What the roll-forward says that decisions have moved."""
    return data.month["accrued_points"] - data.month["clawed_back_points"]


def _tie(data: PackData, decided: int) -> str:
    """Whether what was decided is what the roll-forward accrued and clawed back."""
    points, moved = data.points, _moved_points(data)
    if decided == moved:
        return "Points and cost are those of the roll-forward: accrued less clawed back."
    return (
        f"The roll-forward has {points.text(moved)} accrued less clawed back: "
        f"{points.signed(moved - decided)} are not told by a decision."
    )


def _ledger(data: PackData) -> dict[str, Any]:
    money, points = data.money, data.points
    entries = list(data.gl_entries.iter_rows(named=True))
    rows = []
    source = None
    for entry in entries:
        opens = entry["source"] != source
        source = entry["source"]
        rows.append(
            _row(
                _SOURCES.get(source, source) if opens else "",
                entry["account_code"],
                entry["account_name"],
                money.text(entry["debit_minor"]) if entry["debit_minor"] else "",
                money.text(entry["credit_minor"]) if entry["credit_minor"] else "",
                kind="opens" if opens else "",
            )
        )
    events = list(data.events.iter_rows(named=True))
    lines = list(data.invoice_lines.iter_rows(named=True))
    return {
        "event_columns": [
            ("Event", TEXT), ("Entries", NUMBER), ("Accounts", NUMBER),
            (f"Effect, {points.name}", NUMBER),
        ],
        "event_rows": [
            _row(
                _EVENTS.get(row["event_type"], row["event_type"]), _count(row["entries"]),
                _count(row["accounts"]), points.signed(row["points"]),
            )
            for row in events
        ],
        "event_total": [
            "Change of the liability", _count(sum(row["entries"] for row in events)), "",
            points.signed(sum(row["points"] for row in events)),
        ],
        "gl_columns": [
            ("Source", TEXT), ("Account", TEXT), ("", TEXT), ("Debit", NUMBER), ("Credit", NUMBER),
        ],
        "gl_rows": rows,
        "gl_total": [
            f"Total, {money.name}", "", "",
            money.text(sum(entry["debit_minor"] for entry in entries)),
            money.text(sum(entry["credit_minor"] for entry in entries)),
        ],
        "invoice_columns": [
            ("Component", TEXT), ("", TEXT), (points.name.capitalize(), NUMBER),
            ("Price per unit", NUMBER), ("Share", NUMBER), (f"Exact, {money.name}", NUMBER),
            (f"Billed, {money.name}", NUMBER),
        ],
        "invoice_rows": [
            _row(
                line["component"].replace("_", " ").capitalize()
                + (f", {line['original_period'] or 'prior period'}" if line["is_prior_period"]
                   else ""),
                "we owe" if line["direction"] == "PAYABLE" else "partner owes",
                *_priced(line, money, points),
                f"{line['amount_extended'].scaleb(-money.scale).normalize():,f}".replace(
                    "-", MINUS
                ),
                money.text(line["amount_minor"]),
            )
            for line in lines
        ],
    }  # fmt: skip


def _percent(micros: int) -> str:
    return f"{micros / 10_000:.4f} %"


def _redemption(data: PackData) -> dict[str, Any]:
    """The ultimate redemption rate: memo, sensitivities, actual against expected, cohorts."""
    money, points, told = data.money, data.points, data.redemption.figures
    worth = money.decimal(told["cost_per_point_micros"]).scaleb(-6).normalize()
    difference = told["actual_points"] - told["expected_points"]
    return {
        "rate_columns": [("", TEXT), ("", NUMBER)],
        "rate_rows": [
            _row("Ultimate redemption rate", _percent(told["rate_micros"]), kind="balance"),
            _row("Rate of the terms (approved, booked)", _percent(told["approved_rate_micros"])),
            _row("Cost of a redeemed unit", f"{worth:f} {money.name}"),
            _row("Allowance indicated", money.text(told["indicated_allowance_minor"])),
            _row("Allowance booked", money.text(told["booked_allowance_minor"])),
            _row(
                "Indicated less booked", money.signed(told["allowance_difference_minor"]),
                kind="balance",
            ),
        ],
        "sensitivity_columns": [("Net liability would change", TEXT), (money.name, NUMBER)],
        "sensitivity_rows": [
            _row("Rate one point higher", money.signed(told["rate_plus_one_point_minor"])),
            _row("Rate one point lower", money.signed(told["rate_minus_one_point_minor"])),
            _row("Cost of a unit 5 % higher", money.signed(told["cost_plus_five_percent_minor"])),
            _row("Cost of a unit 5 % lower", money.signed(told["cost_minus_five_percent_minor"])),
        ],
        "expected_columns": [("Redeemed in the month", TEXT), (points.name.capitalize(), NUMBER)],
        "expected_rows": [
            _row("Actual", points.text(told["actual_points"])),
            _row("Expected by the month before", points.text(told["expected_points"])),
            _row("Difference", points.signed(difference), kind="balance"),
        ],
        "cohort_columns": [
            ("Issued in", TEXT), ("Months", NUMBER), (f"Issued, {points.name}", NUMBER),
            ("Redeemed", NUMBER), ("Lapsed", NUMBER), ("Open", NUMBER), ("Emerged", NUMBER),
            ("Ultimate rate", NUMBER), ("Method", TEXT),
        ],
        "cohort_rows": [
            _row(
                row["cohort"], row["months_observed"], points.text(row["issued_points"]),
                points.text(row["redeemed_points"]), points.text(row["lapsed_points"]),
                points.text(row["open_points"]), _percent(row["emerged_micros"]),
                _percent(row["rate_micros"]),
                row["method"].replace("_", " ").replace("BORNHUETTER FERGUSON",
                                                        "BORNHUETTER–FERGUSON").lower(),
            )
            for row in data.redemption.cohorts.tail(HEAT_COHORTS).iter_rows(named=True)
        ],
    }  # fmt: skip


def _expiry(data: PackData) -> dict[str, Any]:
    """Open points by when they lapse; each row's worth is shared out of the closing balance's."""
    rows = list(data.expiry.iter_rows(named=True))
    total = sum(row["points"] for row in rows)
    worth = _shared_out([row["points"] for row in rows], _worth(data, total))
    return {
        "expiry_columns": [
            ("Expires", TEXT), ("Accounts", NUMBER), (data.points.name.capitalize(), NUMBER),
            (f"Worth, {data.money.name}", NUMBER),
        ],
        "expiry_rows": [
            _row(
                row["expires"].capitalize(), _count(row["accounts"]),
                data.points.text(row["points"]), data.money.text(each),
            )
            for row, each in zip(rows, worth, strict=True)
        ],
        "expiry_total": [
            "Open", "", data.points.text(total), data.money.text(_worth(data, total)),
        ],
    }  # fmt: skip


def _close(data: PackData) -> dict[str, Any]:
    """Prior-period lines, what a restatement changes, and who stands for the month."""
    money, points = data.money, data.points
    late = list(data.prior_period.iter_rows(named=True))

    def cell(unit: Any, amount: int | None, signed: bool = False) -> str:
        if amount is None:
            return "–"
        return unit.signed(amount) if signed else unit.text(amount)

    return {
        "prior_columns": [
            ("Takes effect in", TEXT), ("Event", TEXT), ("Entries", NUMBER),
            (f"Effect, {points.name}", NUMBER), (f"Effect, {money.name}", NUMBER),
        ],
        "prior_rows": [
            _row(
                row["original_period"], _EVENTS.get(row["event_type"], row["event_type"]),
                _count(row["entries"]), points.signed(row["points"]),
                money.signed(row["amount_minor"]),
            )
            for row in late
        ],
        "prior_total": [
            "Prior-period effect", "", _count(sum(row["entries"] for row in late)),
            points.signed(sum(row["points"] for row in late)),
            money.signed(sum(row["amount_minor"] for row in late)),
        ],
        "late_entries": data.late_entries,
        "restatement_columns": [
            ("", TEXT), (f"Closed, {points.name}", NUMBER), ("Restated", NUMBER),
            ("Difference", NUMBER), (f"Closed, {money.name}", NUMBER), ("Restated", NUMBER),
            ("Difference", NUMBER),
        ],
        "restatement_rows": [
            _row(
                row["line"], cell(points, row["closed_points"]),
                cell(points, row["restated_points"]), cell(points, row["difference_points"], True),
                cell(money, row["closed_minor"]), cell(money, row["restated_minor"]),
                cell(money, row["difference_minor"], True),
                kind="balance" if row["line"].endswith(("balance", "liability")) else "",
            )
            for row in data.restatement.iter_rows(named=True)
        ],
        "step_columns": [
            ("Step", TEXT), ("Version", NUMBER), ("Prepared by", TEXT), ("Approved by", TEXT),
            ("Known through", NUMBER), ("Reason", TEXT),
        ],
        "step_rows": [
            _row(
                row["state"].replace("_", " ").lower(), row["version"], row["preparer"] or "–",
                " and ".join(n for n in (row["approver"], row["second_approver"]) if n) or "–",
                row["known_at"].isoformat(" ", "seconds"), row["reason"] or "",
            )
            for row in data.steps.iter_rows(named=True)
        ],
    }  # fmt: skip


def _priced(line: dict[str, Any], money: Unit, points: Unit) -> tuple[str, str, str]:
    """Points, price and share of an invoice line; a line of the rate card has its version."""
    if line["rate_card_version"] is not None:
        return "–", "–", f"rate card {line['rate_card_version']}"
    return (
        points.text(line["points"]),
        f"{money.decimal(line['price_micros']).scaleb(-6):,f}",
        f"{line['share_bps'] / 100:.2f} %",
    )


def _evidence(data: PackData) -> dict[str, Any]:
    money = data.money
    runs = list(data.reconciliations.iter_rows(named=True))
    titles = {link.recon_id: link.title for link in CHAIN}
    exceptions = list(data.exceptions.iter_rows(named=True))
    month = data.month
    terms = [
        _row(f"Terms version {rule['version']}, from {rule['valid_from']}", rule["rule_hash"][:16])
        for rule in data.rules.iter_rows(named=True)
    ]
    worth = money.decimal(int(month["point_value_micros"])).scaleb(-6).normalize()
    terms += [
        _row("Value of one unit", f"{worth:f} {money.name}"),
        _row("Breakage estimate", f"{month['breakage_bps'] / 100:.2f} %"),
    ]
    seals = list(data.seals.iter_rows(named=True))
    if seals:
        terms.append(_row(f"Ledger seals, last {seals[-1]['sealed_on']}", _count(len(seals))))
    return {
        "recon_columns": [
            ("Chain", TEXT), ("", TEXT), ("Days", NUMBER), ("Left", NUMBER), ("Right", NUMBER),
            ("Breaks", NUMBER), ("Status", TEXT),
        ],
        "recon_rows": [
            _row(
                row["recon_id"], titles.get(row["recon_id"], ""), _count(row["days"]),
                _count(row["left_count"]), _count(row["right_count"]), _count(row["breaks"]),
                row["status"].lower(), kind=row["status"].lower(),
            )
            for row in runs
        ],
        "exception_columns": [
            ("Chain", TEXT), ("Type", TEXT), ("Kind", TEXT), ("Open", NUMBER), ("Amount", NUMBER),
            ("", TEXT), ("0–1 days", NUMBER), ("2–5", NUMBER), ("6–30", NUMBER),
            ("31 and more", NUMBER), ("Oldest", NUMBER), ("Newest", NUMBER),
        ],
        "exception_rows": [
            _row(
                row["recon_id"], row["type"].replace("_", " ").lower(),
                "break" if _is_break(row) else "case",
                _count(row["exceptions"]), *_amount(row),
                *(_count(row[f"age_{age}"]) for age in ("0_1", "2_5", "6_30", "31")),
                row["oldest_on"], row["newest_on"],
            )
            for row in exceptions
        ],
        "exception_note": _exception_note(data),
        "control_columns": [("", TEXT), ("Amount", NUMBER)],
        "control_rows": [
            _row(
                row["control"].capitalize(),
                data.points.text(row["amount"])
                if row["control"].startswith("points ")
                else _count(row["amount"]),
            )
            for row in data.control_totals.iter_rows(named=True)
        ]
        + [
            _row("Input files", _count(data.input_files.height)),
            _row("Ledger entries to the month's end", _count(data.ledger_entries)),
            _row(
                "Last of them recorded",
                data.recorded_at.isoformat(" ", "seconds") if data.recorded_at else "–",
            ),
        ],
        "terms_columns": [("", TEXT), ("", NUMBER)],
        "terms_rows": terms,
    }  # fmt: skip


def _amount(row: dict[str, Any]) -> tuple[str, str]:
    """What exceptions of one kind are about, and its currency; a plain number where it is none."""
    if row["currency"] is None:
        return _count(row["amount_minor"]), ""
    return Unit.money(row["currency"]).text(row["amount_minor"]), row["currency"]


def _exception_note(data: PackData) -> str:
    """How exceptions can be open although the reconciliations of the month agree."""
    breaks, cases = _open_exceptions(data)
    told = []
    if breaks:
        told.append(
            "A break is a day on which the two sides of a link differ; it stays open in later "
            "months, whose own days may agree, until its input is mended or somebody settles it."
        )
    if cases:
        told.append(
            "A case was put forward by the rewards engine, e.g. a refund of more than was left of "
            "its purchase: both sides of the chain have it and agree, the terms decided it, and "
            "somebody has to look whether that was right."
        )
    return " ".join(told)


def _notes(data: PackData) -> list[str]:
    money, points = data.money, data.points
    return [
        f"The ledger counts {points.name} as integers of {points.decimal(1)}. A balance is "
        f"turned into {money.name} by one rounding, half away from zero; the money of a flow is "
        "the worth of the balance after it less the balance before it, so the column adds up to "
        "the closing balance without a difference.",
        "An entry counts for the accounting period that it was posted in. One that takes effect "
        "in a closed month is posted in the next open one, and its invoice line stands apart.",
        "Face is exact and comes from the ledger. The breakage allowance is an estimate: one "
        "share of the face, from the program's terms, that members are expected never to redeem. "
        "Expiry and forfeiture use it up and cost nothing again; only a changed estimate does.",
        "The ultimate redemption rate is a chain ladder over cohorts by issue month; young ones "
        "lean on the rate of the terms (Bornhuetter–Ferguson). It is told beside the books: only "
        "the estimate of the terms is booked.",
        "Redeemed points leave the liability at their value; where the terms tell another cost of "
        "them, the difference is rewards cost in the general ledger.",
        "Rewards cost = accrued − clawed back + adjusted − provision − re-estimate. What the "
        "partner funds is a receivable and reduces the cost account.",
        "Cost by rule and category prices what the decisions posted in the month moved at the "
        "value of a point, corrections of earlier decisions included.",
        "Invoice lines are priced exactly and rounded once each.",
        "The same ledger gives this pack byte for byte; another ledger gives a new version "
        "beside it.",
    ]
