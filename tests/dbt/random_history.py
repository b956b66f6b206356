"""A small portfolio in which everything goes wrong that may: late rows, corrections, re-deliveries.

Rows carry the time at which they were received; `loads_of` splits them into ingest commits, most of
them in the order of that time and some not.
"""

import random
from datetime import date, datetime, time, timedelta
from typing import Any

Row = dict[str, Any]
START = date(2024, 1, 1)
DAYS = 110
MCCS = ("5411", "5812", "6011", "7995")


def _at(rng: random.Random, day: date) -> datetime:
    return datetime.combine(day, time(rng.randrange(24), rng.randrange(60), rng.randrange(60)))


def _later(rng: random.Random, when: datetime) -> datetime:
    """When we get to know of `when`: the same day, often; weeks later, sometimes."""
    return when + rng.choice(
        [
            timedelta(0),
            timedelta(minutes=9),
            timedelta(hours=20),
            timedelta(days=rng.randrange(1, 45)),
        ]
    )


class _History:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rows: dict[str, list[Row]] = {}
        self.accounts = [f"a{number}" for number in range(5)]
        self.merchants = [f"m{number}" for number in range(4)]

    def add(self, feed: str, received_at: datetime, **columns: Any) -> None:
        rows = self.rows.setdefault(feed, [])
        # No two rows arrive at one instant: which is the later must not hang on the split in loads.
        received_at += timedelta(microseconds=len(rows) + 1)
        rows.append({**columns, "received_at": received_at})
        if self.rng.random() < 0.06:
            again = received_at + timedelta(days=self.rng.randrange(0, 20), microseconds=1)
            rows.append({**columns, "received_at": again})

    def portfolio(self) -> None:
        rng = self.rng
        for number, account in enumerate(self.accounts):
            # The last account is of the first one's customer.
            customer = f"c{number % (len(self.accounts) - 1)}"
            opened = START - timedelta(days=rng.randrange(0, 400))
            for version in range(rng.randrange(1, 4)):
                updated_at = _at(rng, START + timedelta(days=40 * version))
                self.add(
                    "accounts", _later(rng, updated_at), account_id=account,
                    customer_id=customer, program_id=rng.choice(["p1", "p1", "p2"]),
                    opened_on=opened, credit_limit_minor=100_000 * (1 + version // 2),
                    currency="USD", updated_at=updated_at, status="OPEN",
                )  # fmt: skip
            for version in range(rng.randrange(0, 4) if number < len(self.accounts) - 1 else 0):
                updated_at = _at(rng, START + timedelta(days=30 * version))
                self.add(
                    "customers", _later(rng, updated_at), customer_id=customer,
                    updated_at=updated_at, person_id=f"h{number}",
                    state=rng.choice(["NY", "NJ"]), postal_code=rng.choice(["10001", None]),
                    latitude=rng.choice([40.7, None]), longitude=-74.0,
                    phone_hash=rng.choice(["p", "q", None]), email_hash=rng.choice(["e", "f"]),
                )  # fmt: skip
        for merchant in self.merchants:
            for version in range(rng.randrange(1, 3)):
                updated_at = _at(rng, START + timedelta(days=50 * version))
                self.add(
                    "merchants", _later(rng, updated_at), merchant_id=merchant,
                    updated_at=updated_at, mcc=rng.choice(MCCS), country="US",
                    partner_id=rng.choice([None, "skyline"]),
                )  # fmt: skip

    def transaction(self, number: int) -> None:
        rng = self.rng
        account = rng.choice(self.accounts)
        day = START + timedelta(days=rng.randrange(DAYS))
        common = {
            "transaction_id": f"t{number}",
            "account_id": account,
            "card_id": f"{account}-{rng.randrange(2)}",
            "merchant_id": rng.choice([*self.merchants, None]),
            "amount_minor": rng.choice([1_000, 2_500, 5_000, rng.randrange(1, 90_000)]),
            "currency": "USD",
            "direction": "DEBIT",
            "network_transaction_id": f"n{number}" if rng.random() < 0.5 else None,
            "mcc": rng.choice([*MCCS, None]),
            "merchant_country": rng.choice(["US", "FR", None]),
            "device_id": rng.choice([None, "d0", f"d-{account}"]),
            "ip_hash": rng.choice([None, f"i{rng.randrange(5)}"]),
            "is_card_present": rng.choice([True, False]),
            "latitude": rng.uniform(-60, 60),
            "longitude": rng.uniform(-170, 170),
        }
        authorized_at = _at(rng, day)
        if rng.random() < 0.6:
            result = "DECLINED" if rng.random() < 0.2 else "APPROVED"
            self.message(f"e{number}a", authorized_at, common, "AUTHORIZATION", auth_result=result)
            if result == "DECLINED":
                return
        for part in range(rng.choice([1, 1, 1, 2])):
            cleared_at = authorized_at + timedelta(days=rng.randrange(0, 4))
            self.message(
                f"e{number}c{part}", cleared_at, common, "CLEARING",
                posted_on=rng.choice([None, cleared_at.date()]),
            )  # fmt: skip
        if rng.random() < 0.1:
            self.message(
                f"e{number}k", authorized_at + timedelta(days=5), {**common, "amount_minor": 100},
                "CORRECTION_CREDIT", direction="CREDIT",
            )  # fmt: skip
        for part in range(rng.choice([0, 0, 1, 2])):
            self.refund(f"r{number}-{part}", authorized_at, common)
        if rng.random() < 0.35:
            self.label(number, authorized_at)

    def message(
        self, event_id: str, event_at: datetime, common: Row, kind: str, **more: Any
    ) -> None:
        rng = self.rng
        row = {**common, "event_id": event_id, "event_type": kind, "event_at": event_at, **more}
        received_at = _later(rng, event_at)
        self.add("transactions", received_at, **row)
        while rng.random() < 0.15:
            changed: Row = rng.choice(
                [
                    {"amount_minor": rng.randrange(1, 90_000)},
                    {"card_id": f"{rng.choice(self.accounts)}-0"},
                    {"merchant_id": rng.choice(self.merchants)},
                    {"event_type": "AUTHORIZATION_ADVICE"},
                    {"account_id": rng.choice(self.accounts)},
                ]
            )
            row = {**row, **changed}
            received_at += timedelta(hours=rng.randrange(0, 400))
            self.add("transactions", received_at, **row)

    def refund(self, name: str, bought_at: datetime, common: Row) -> None:
        rng = self.rng
        how = rng.choice(["original", "network", "merchant", "merchant", "none"])
        refund = {
            **common,
            "transaction_id": name,
            "direction": "CREDIT",
            "amount_minor": rng.choice(
                [common["amount_minor"], max(1, common["amount_minor"] // 2)]
            ),
            "original_transaction_id": common["transaction_id"] if how == "original" else None,
        }
        if how != "network":
            refund["network_transaction_id"] = None
        if how == "none":
            refund["merchant_id"] = "elsewhere"
        self.message(
            f"e-{name}", bought_at + timedelta(days=rng.randrange(0, 200)), refund, "RETURN"
        )

    def label(self, number: int, happened_at: datetime) -> None:
        rng = self.rng
        for version in range(rng.choice([1, 1, 2])):
            known_at = happened_at + timedelta(days=rng.randrange(1, 40))
            self.add(
                "fraud_labels", _later(rng, known_at), label_id=f"l{number}-{version}",
                transaction_id=f"t{number}",
                label=rng.choice(["FRAUD", "FRAUD", "LEGIT", "UNKNOWN"]),
                occurred_at=happened_at, known_at=known_at,
                fraud_type=rng.choice(["CNP", "FIRST_PARTY", None]),
            )  # fmt: skip

    def statements(self) -> None:
        rng = self.rng
        for account in self.accounts:
            balance = 0
            for month in range(14):
                start = date(2023 + (month + 2) // 12, (month + 2) % 12 + 1, 1)
                end = (start + timedelta(days=31)).replace(day=1) - timedelta(days=1)
                bought, paid = rng.randrange(0, 50_000), rng.randrange(0, 40_000)
                received_at = _later(rng, datetime.combine(end, time(23, 59, 59)))
                for version in range(rng.choice([1, 1, 1, 2])):
                    self.add(
                        "statements", received_at + timedelta(days=9 * version),
                        statement_id=f"s-{account}-{month}", account_id=account,
                        period_start_on=start, period_end_on=end, currency="USD",
                        opening_balance_minor=balance,
                        closing_balance_minor=balance + bought - paid,
                        purchases_minor=bought, payments_minor=paid, minimum_due_minor=1_000,
                        cash_advances_minor=0, balance_transfers_minor=0, fees_minor=0,
                        interest_minor=0, other_debits_minor=0, credits_minor=0,
                        credit_limit_minor=100_000,
                        days_past_due=rng.choice([0, 0, 0, 30, 60, 95]) + version,
                    )  # fmt: skip
                balance += bought - paid
                initiated_at = datetime.combine(start, time(12))
                self.add(
                    "payments", initiated_at, payment_id=f"y-{account}-{month}",
                    account_id=account, amount_minor=paid, currency="USD",
                    initiated_at=initiated_at, state="SETTLED",
                )  # fmt: skip
                if rng.random() < 0.3:
                    returned_at = initiated_at + timedelta(days=5)
                    self.add(
                        "payments", _later(rng, returned_at), payment_id=f"y-{account}-{month}",
                        account_id=account, amount_minor=paid, currency="USD",
                        initiated_at=initiated_at, state="RETURNED", returned_at=returned_at,
                    )  # fmt: skip

    def cards_and_redemptions(self) -> None:
        rng = self.rng
        for account in self.accounts:
            for number in range(2):
                issued_at = _at(rng, START - timedelta(days=rng.randrange(0, 300)))
                common = {"card_id": f"{account}-{number}", "account_id": account}
                common |= {"state": "ACTIVE", "issued_at": issued_at}
                self.add("cards", _later(rng, issued_at), **common, updated_at=issued_at)
                if rng.random() < 0.7:
                    at = issued_at + timedelta(days=rng.randrange(1, 60))
                    self.add("cards", _later(rng, at), **common, updated_at=at, activated_at=at)
            day = START
            for number in range(12):
                day += timedelta(days=rng.choice([0, 1, 3, 20]))
                event_at = _at(rng, day)
                for version in range(rng.choice([1, 1, 2])):
                    self.add(
                        "reward_events", _later(rng, event_at), account_id=account,
                        reward_event_id=f"w-{account}-{number}", program_id="p1",
                        kind=rng.choice(["REDEEM", "REDEEM", "TRANSFER", "ACTIVATE"]),
                        event_at=event_at, points=1_000 * (1 + version),
                    )  # fmt: skip

    def applications(self) -> None:
        rng = self.rng
        submitted_at = datetime.combine(START, time())
        for number in range(25):
            # Every second one comes within two days of the one before.
            submitted_at = (
                submitted_at + timedelta(minutes=rng.randrange(2_880))
                if number % 2
                else _at(rng, START + timedelta(days=rng.randrange(DAYS)))
            )
            common = {
                "application_id": f"x{number}",
                "person_id": f"u{number % 7}",
                "program_id": "p1",
                "submitted_at": submitted_at,
                "device_id": rng.choice([None, "d0", "d1"]),
                "ip_hash": rng.choice([None, "i0"]),
                "account_id": f"a{number}" if number < len(self.accounts) else None,
            }
            received_at = _later(rng, submitted_at)
            customer = rng.choice([None, f"c{number % 4}"])
            self.add(
                "applications", received_at, **common, customer_id=customer, decision="PENDING"
            )
            self.add(
                "applications", _later(rng, received_at), **common, customer_id=f"c{number % 4}",
                decision=rng.choice(["APPROVED", "DECLINED"]), decision_at=submitted_at,
            )  # fmt: skip
            self.pull(number, submitted_at)

    def pull(self, number: int, requested_at: datetime) -> None:
        rng = self.rng
        key = {"pull_id": f"b{number}"}
        received_at = requested_at + timedelta(minutes=1)
        self.add(
            "bureau_pulls", received_at, **key, person_id=f"u{number % 7}",
            requested_at=requested_at, application_id=f"x{number}", pull_type="HARD",
            file_hit="HIT", score=rng.randrange(500, 800),
        )  # fmt: skip
        for line in range(rng.randrange(0, 5)):
            for _ in range(rng.choice([1, 1, 2])):
                self.add(
                    "bureau_tradelines", _later(rng, received_at), **key, tradeline_id=f"{line}",
                    portfolio_type=rng.choice(["R", "I"]), account_type=rng.choice(["18", "00"]),
                    opened_on=requested_at.date() - timedelta(days=rng.randrange(1, 4_000)),
                    balance_minor=rng.randrange(0, 9_000),
                    credit_limit_minor=rng.choice([0, 9_000]),
                    account_status=rng.choice(["11", "97"]), is_open=rng.choice([True, None]),
                    payment_history="".join(rng.choice("0000B12") for _ in range(24)),
                )  # fmt: skip
            self.add(
                "bureau_inquiries", received_at, **key, inquiry_id=f"{line}",
                inquired_on=requested_at.date() - timedelta(days=rng.randrange(0, 500)),
                subscriber_kind=rng.choice(["AUTO", "BANK"]),
            )  # fmt: skip


def history(seed: int, transactions: int = 220) -> dict[str, list[Row]]:
    """Rows of every feed of one made-up portfolio, by feed."""
    made = _History(seed)
    made.portfolio()
    for number in range(transactions):
        made.transaction(number)
    made.statements()
    made.applications()
    made.cards_and_redemptions()
    return made.rows


def loads_of(rows: dict[str, list[Row]], seed: int, count: int = 3) -> list[dict[str, list[Row]]]:
    """`rows` in `count` ingest commits by time received; one row in eight comes late."""
    rng = random.Random(seed)
    times = sorted(row["received_at"] for feed in rows.values() for row in feed)
    bounds = [times[len(times) * number // count] for number in range(1, count)]
    loads: list[dict[str, list[Row]]] = [{} for _ in range(count)]
    for feed, all_rows in rows.items():
        for row in all_rows:
            number = sum(row["received_at"] >= bound for bound in bounds)
            if rng.random() < 0.125:
                number = rng.randrange(number, count)
            loads[number].setdefault(feed, []).append(row)
    return loads
