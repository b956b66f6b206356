"""Features of fraud detection that need what only the authorization knows.

Functions take and return columns (lists of equal length), never single values: Feast's singleton
mode computes only the first row of an online request with several. They are stored as source text,
so each holds everything that it uses, or imports it. An input that is missing or cannot be gives a
null, never a default. The same functions run on training rows and online.
"""

from feast import Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float64, Int64, String
from fraud_features import (
    account_amount_features,
    account_contact_features,
    account_history_features,
    account_limit_features,
    account_mcc_features,
    account_merchant_features,
    account_recent_features,
    account_redemption_features,
    card_recent_features,
    card_state_features,
    card_velocity_features,
    device_recent_features,
    ip_recent_features,
    merchant_recent_features,
)

authorization_request = RequestSource(
    name="authorization_request",
    description="The authorization: amount in minor units, hour 0–23, ISO weekday 1 (Monday)–7, "
    "place where the card is present. event_at is when it happens, by default now, and known_at "
    "what the stored features are as of, by default the last materialisation; both ISO, UTC.",
    schema=[
        Field(name="amount_minor", dtype=Int64),
        Field(name="event_hour", dtype=Int64),
        Field(name="event_weekday", dtype=Int64),
        Field(name="event_at", dtype=String),
        Field(name="known_at", dtype=String),
        Field(name="mcc", dtype=String),
        Field(name="merchant_country", dtype=String),
        Field(name="device_id", dtype=String),
        Field(name="ip_hash", dtype=String),
        Field(name="entry_mode", dtype=String),
        Field(name="is_card_present", dtype=Bool),
        Field(name="latitude", dtype=Float64),
        Field(name="longitude", dtype=Float64),
    ],
)


@on_demand_feature_view(
    sources=[account_amount_features, card_velocity_features, authorization_request],
    schema=[
        Field(name="amount_zscore_now", dtype=Float64),
        Field(name="amount_to_max_30d", dtype=Float64),
        Field(name="card_amount_to_mean_30d", dtype=Float64),
        Field(name="card_amount_to_max_30d", dtype=Float64),
        Field(name="is_night", dtype=Bool),
        Field(name="is_weekend", dtype=Bool),
        Field(name="is_holiday", dtype=Bool),
        Field(name="is_cross_border", dtype=Bool),
        Field(name="is_card_not_present", dtype=Bool),
        Field(name="is_magnetic_stripe", dtype=Bool),
        Field(name="is_stored_credential", dtype=Bool),
        Field(name="is_round_amount", dtype=Bool),
        Field(name="is_just_below_threshold", dtype=Bool),
    ],
    mode="python",
    description="The authorization against the account's usual amounts, when and how it happens.",
)
def authorization_context(inputs):
    from pipelines.features.amounts import ratio, zscore
    from pipelines.features.calendar import is_cross_border, is_holiday

    amounts = inputs["amount_minor"]
    usual = zip(
        amounts,
        inputs["amount_count_30d"],
        inputs["amount_mean_30d_minor"],
        inputs["amount_stddev_30d_minor"],
        strict=True,
    )
    of_card = zip(
        amounts,
        inputs["authorization_count_30d"],
        inputs["authorization_amount_30d_minor"],
        strict=True,
    )
    return {
        "amount_zscore_now": [zscore(*row) for row in usual],
        "amount_to_max_30d": [
            ratio(*row) for row in zip(amounts, inputs["amount_max_30d_minor"], strict=True)
        ],
        "card_amount_to_mean_30d": [
            None if amount is None or count is None else ratio(amount * count, total)
            for amount, count, total in of_card
        ],
        "card_amount_to_max_30d": [
            ratio(*row)
            for row in zip(amounts, inputs["authorization_amount_max_30d_minor"], strict=True)
        ],
        "is_night": [
            hour < 6 if hour is not None and 0 <= hour <= 23 else None
            for hour in inputs["event_hour"]
        ],
        "is_weekend": [
            day >= 6 if day is not None and 1 <= day <= 7 else None
            for day in inputs["event_weekday"]
        ],
        "is_holiday": [
            is_holiday(country, event_at)
            for country, event_at in zip(
                inputs["merchant_country"], inputs["event_at"], strict=True
            )
        ],
        "is_cross_border": [is_cross_border(country) for country in inputs["merchant_country"]],
        "is_card_not_present": [
            None if is_present is None else not is_present
            for is_present in inputs["is_card_present"]
        ],
        # A chip card read by its stripe is how copies of it are used.
        "is_magnetic_stripe": [
            None if mode is None else mode == "MAGSTRIPE" for mode in inputs["entry_mode"]
        ],
        "is_stored_credential": [
            None if mode is None else mode == "CREDENTIAL_ON_FILE" for mode in inputs["entry_mode"]
        ],
        "is_round_amount": [
            None if amount is None else amount % 1_000 == 0 for amount in inputs["amount_minor"]
        ],
        # From a limit on merchants and issuers look closer: at most 2 % below one.
        "is_just_below_threshold": [
            None
            if amount is None
            else any(0 < limit - amount <= limit // 50 for limit in (10000, 20000, 50000, 100000))
            for amount in inputs["amount_minor"]
        ],
    }


@on_demand_feature_view(
    sources=[
        card_recent_features,
        account_recent_features,
        merchant_recent_features,
        device_recent_features,
        ip_recent_features,
        authorization_request,
    ],
    schema=[
        *(
            Field(name=name, dtype=Int64)
            for entity in ("card", "account", "merchant", "device", "ip")
            for window in ("15m", "1h", "24h")
            for name in (
                f"{entity}_count_{window}",
                f"{entity}_declined_count_{window}",
                f"{entity}_amount_{window}_minor",
            )
        ),
        Field(name="seconds_since_used", dtype=Float64),
        Field(name="seconds_since_declined", dtype=Float64),
        Field(name="age_s", dtype=Float64),
    ],
    mode="python",
    description="What is known of the last 15 minutes, hour and day before the authorization, of "
    "its card, account, merchant, device and address, exact to the microsecond, and how old what "
    "is known is. Of one that is too busy for a log, the windows end with its last message.",
)
def authorization_windows(inputs):
    # Authorizations of [event_at - window, event_at): the present one is not among them. A message
    # with a small letter takes back one that was corrected later; with `=` begins what the windows
    # of a busy one were at a time.
    from pipelines.features.requests import microseconds

    lengths = {"15m": 900_000_000, "1h": 3_600_000_000, "24h": 86_400_000_000}
    unknown = [None] * (3 * len(lengths))

    def counted(log, now):
        sums = [0] * len(unknown)
        for message in log.split():
            if message[0] == "=":
                heard, _, *parts = map(int, message[1:].split(":"))
                for place, length in enumerate(lengths.values()):
                    if 0 < now - heard < length:
                        for each in range(3 * place, 3 * place + 3):
                            sums[each] += parts[each]
                continue
            at, amount, kind, *_ = message.split(":")
            sign = 1 if kind in "AD" else -1
            for place, length in enumerate(lengths.values()):
                if 0 < now - int(at) <= length:
                    if kind in "Aa":
                        sums[3 * place] += sign
                        sums[3 * place + 2] += sign * int(amount)
                    else:
                        sums[3 * place + 1] += sign
        return sums

    now = [microseconds(text) for text in inputs["event_at"]]
    known = [microseconds(text) for text in inputs["known_at"]]
    answer = {}
    for entity in ("card", "account", "merchant", "device", "ip"):
        logs = inputs[
            "recent_authorizations" if entity == "card" else f"{entity}_recent_authorizations"
        ]
        rows = [
            unknown if log is None or at is None else counted(log, at)
            for log, at in zip(logs, now, strict=True)
        ]
        names = [
            f"{entity}_{measure}"
            for window in lengths
            for measure in (
                f"count_{window}",
                f"declined_count_{window}",
                f"amount_{window}_minor",
            )
        ]
        answer |= {name: [row[place] for row in rows] for place, name in enumerate(names)}

    def seconds_since(at, stored, log, kind):
        if at is None or stored is None:
            return None
        if stored >= at:
            # Something that is no earlier is known already: the log may have what was before.
            messages = [message.split(":") for message in (log or "").split() if message[0] != "="]
            before = [int(us) for us, _, told, *_ in messages if told == kind and int(us) < at]
            if not before:
                return None
            stored = max(before)
        return (at - stored) / 1e6 if at - stored < 90 * lengths["24h"] else None

    for name, kind, times in (
        ("seconds_since_used", "A", inputs["last_used_us"]),
        ("seconds_since_declined", "D", inputs["last_declined_us"]),
    ):
        logs = inputs["recent_authorizations"]
        answer[name] = [
            seconds_since(at, stored, log, kind)
            for at, stored, log in zip(now, times, logs, strict=True)
        ]
    answer["age_s"] = [
        None if at is None or known_at is None else (at - known_at) / 1e6
        for at, known_at in zip(now, known, strict=True)
    ]
    return answer


@on_demand_feature_view(
    sources=[card_recent_features, account_contact_features, authorization_request],
    schema=[
        Field(name="distance_from_home_km", dtype=Float64),
        Field(name="distance_km", dtype=Float64),
        Field(name="speed_kmh", dtype=Float64),
        Field(name="is_impossible_travel", dtype=Bool),
    ],
    mode="python",
    description="How far from home, and from where the card was last used in person, within 90 "
    "days, and how fast that would be; impossible above 900 km/h and 100 km.",
)
def authorization_travel(inputs):
    from math import asin, cos, radians, sin, sqrt

    from pipelines.features.requests import microseconds

    def is_place(latitude, longitude):
        if latitude is None or longitude is None:
            return False
        return -90 <= latitude <= 90 and -180 <= longitude <= 180

    def kilometres(latitude, longitude, other_latitude, other_longitude):
        # The great circle on a sphere of the Earth's mean radius.
        north, other_north = radians(latitude), radians(other_latitude)
        half = (
            sin((north - other_north) / 2) ** 2
            + cos(north)
            * cos(other_north)
            * sin((radians(longitude) - radians(other_longitude)) / 2) ** 2
        )
        return 2 * 6371.0088 * asin(min(1.0, sqrt(half)))

    def travelled(here, at, place):
        if place is None or at is None or not is_place(*here):
            return None, None, None
        stamp, *there = place.split()
        passed = at - (int(stamp) - 10**18)
        if not 0 < passed < 90 * 86_400_000_000:
            return None, None, None
        distance = kilometres(*here, *map(float, there))
        # Below five minutes, as in five.
        speed = distance / (max(passed / 1e6, 300.0) / 3600)
        return distance, speed, speed > 900 and distance > 100

    here = list(zip(inputs["latitude"], inputs["longitude"], strict=True))
    homes = zip(inputs["home_latitude"], inputs["home_longitude"], strict=True)
    now = [microseconds(text) for text in inputs["event_at"]]
    rows = [travelled(*row) for row in zip(here, now, inputs["last_place"], strict=True)]
    names = ("distance_km", "speed_kmh", "is_impossible_travel")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)} | {
        "distance_from_home_km": [
            kilometres(*place, *home) if is_place(*place) and is_place(*home) else None
            for place, home in zip(here, homes, strict=True)
        ]
    }


@on_demand_feature_view(
    sources=[
        account_mcc_features,
        account_merchant_features,
        account_amount_features,
        authorization_request,
    ],
    schema=[
        Field(name="account_mcc_count_30d", dtype=Int64),
        Field(name="account_mcc_count_90d", dtype=Int64),
        Field(name="account_mcc_share_90d", dtype=Float64),
        Field(name="account_mcc_amount_zscore_30d", dtype=Float64),
        Field(name="account_mcc_amount_zscore_90d", dtype=Float64),
        Field(name="account_mcc_amount_to_max_90d", dtype=Float64),
        Field(name="account_mcc_amount_percentile_90d", dtype=Float64),
        Field(name="seconds_since_mcc_used", dtype=Float64),
        Field(name="account_merchant_count_90d", dtype=Int64),
        Field(name="account_merchant_share_90d", dtype=Float64),
        Field(name="seconds_since_merchant_used", dtype=Float64),
    ],
    mode="python",
    description="The authorization against what the account bought of the same category and at the "
    "same merchant in 90 days: how often, how much, how lately; of the last 50 each. Null: the "
    "account is not known to have been there.",
)
def authorization_habits(inputs):
    from math import sqrt

    from pipelines.features.amounts import ratio, zscore
    from pipelines.features.requests import microseconds

    day = 86_400_000_000

    def uses(log, now):
        # Microseconds passed and amount of each; a third part takes back what was corrected later.
        told, withdrawn = [], []
        for message in log.split():
            us, amount, *taken_back = message.split(":")
            passed = now - int(us)
            if 0 < passed <= 90 * day:
                (withdrawn if taken_back else told).append((passed, int(amount)))
        for use in withdrawn:
            if use in told:
                told.remove(use)
        return told

    def deviation(amount, amounts):
        count = len(amounts)
        if count < 5:
            return None
        total, squares = sum(amounts), sum(each * each for each in amounts)
        stddev = sqrt((count * squares - total * total) / (count * (count - 1)))
        return zscore(amount, count, total / count, stddev)

    def percentile(amount, amounts):
        # The middle rank: half of those that are equal stand below.
        if amount is None or len(amounts) < 5:
            return None
        return sum((each < amount) + (each <= amount) for each in amounts) / 2 / len(amounts)

    now = [microseconds(text) for text in inputs["event_at"]]
    told = {
        pair: [
            None if at is None or log is None else uses(log, at)
            for at, log in zip(now, inputs[f"{pair}_recent_uses"], strict=True)
        ]
        for pair in ("mcc", "merchant")
    }
    answer = {}
    for pair, rows in told.items():
        counts = [None if row is None else len(row) for row in rows]
        shares = [ratio(*row) for row in zip(counts, inputs["amount_count_90d"], strict=True)]
        answer[f"account_{pair}_count_90d"] = counts
        answer[f"account_{pair}_share_90d"] = [None if s is None else min(1.0, s) for s in shares]
        answer[f"seconds_since_{pair}_used"] = [min(row)[0] / 1e6 if row else None for row in rows]

    amounts = inputs["amount_minor"]
    of_90_days = [[each for _, each in row or ()] for row in told["mcc"]]
    of_30_days = [[each for passed, each in row or () if passed <= 30 * day] for row in told["mcc"]]
    return answer | {
        "account_mcc_count_30d": [
            None if row is None else len(lately)
            for row, lately in zip(told["mcc"], of_30_days, strict=True)
        ],
        "account_mcc_amount_zscore_30d": [
            deviation(*row) for row in zip(amounts, of_30_days, strict=True)
        ],
        "account_mcc_amount_zscore_90d": [
            deviation(*row) for row in zip(amounts, of_90_days, strict=True)
        ],
        "account_mcc_amount_to_max_90d": [
            ratio(amount, max(usual, default=None))
            for amount, usual in zip(amounts, of_90_days, strict=True)
        ],
        "account_mcc_amount_percentile_90d": [
            percentile(*row) for row in zip(amounts, of_90_days, strict=True)
        ],
    }


@on_demand_feature_view(
    sources=[account_history_features, account_merchant_features, authorization_request],
    schema=[
        Field(name="is_new_mcc", dtype=Bool),
        Field(name="is_new_country", dtype=Bool),
        Field(name="is_new_device", dtype=Bool),
        Field(name="days_at_merchant", dtype=Float64),
    ],
    mode="python",
    description="Whether the account has never used the category, the country or the device, and "
    "for how many days it has used the merchant; null there: never.",
)
def authorization_novelty(inputs):
    from pipelines.features.requests import microseconds

    answer = {
        name: [
            None if value is None or known is None else value not in known.split("\x1f")
            for value, known in zip(inputs[given], inputs[stored], strict=True)
        ]
        for name, given, stored in (
            ("is_new_mcc", "mcc", "known_mccs"),
            ("is_new_country", "merchant_country", "known_countries"),
            ("is_new_device", "device_id", "known_devices"),
        )
    }
    now = [microseconds(text) for text in inputs["event_at"]]
    answer["days_at_merchant"] = [
        (at - first) / 86_400e6 if at is not None and first is not None and at > first else None
        for at, first in zip(now, inputs["first_used_us"], strict=True)
    ]
    return answer


@on_demand_feature_view(
    sources=[
        card_state_features,
        account_contact_features,
        account_limit_features,
        account_redemption_features,
        authorization_request,
    ],
    schema=[
        Field(name="days_since_issued", dtype=Float64),
        Field(name="days_since_activated", dtype=Float64),
        Field(name="days_since_address_change", dtype=Float64),
        Field(name="days_since_phone_change", dtype=Float64),
        Field(name="days_since_email_change", dtype=Float64),
        Field(name="is_contact_changed_24h", dtype=Bool),
        Field(name="days_since_limit_change", dtype=Float64),
        Field(name="limit_change_ratio", dtype=Float64),
        Field(name="redeemed_count_24h", dtype=Int64),
        Field(name="redeemed_points_24h", dtype=Int64),
        Field(name="redeemed_count_7d", dtype=Int64),
        Field(name="redeemed_points_7d", dtype=Int64),
    ],
    mode="python",
    description="How long the card has been out, how the account's limit and how to reach its "
    "holder last changed, and what was redeemed of its points just before the authorization.",
)
def authorization_account_state(inputs):
    from pipelines.features.amounts import ratio
    from pipelines.features.requests import microseconds

    day = 86_400_000_000
    now = [microseconds(text) for text in inputs["event_at"]]
    answer = {
        name: [
            (at - since) / day if at is not None and since is not None and at >= since else None
            for at, since in zip(now, inputs[stored], strict=True)
        ]
        for name, stored in (
            ("days_since_issued", "issued_us"),
            ("days_since_activated", "activated_us"),
            ("days_since_address_change", "address_changed_us"),
            ("days_since_phone_change", "phone_changed_us"),
            ("days_since_email_change", "email_changed_us"),
            ("days_since_limit_change", "limit_changed_us"),
        )
    }
    # As with redemptions: no change is none, as long as the account is known.
    changes = zip(
        now,
        inputs["credit_limit_minor"],
        *(inputs[f"{subject}_changed_us"] for subject in ("address", "phone", "email")),
        strict=True,
    )
    answer["is_contact_changed_24h"] = [
        None
        if at is None or limit is None
        else any(us is not None and 0 <= at - us <= day for us in changed)
        for at, limit, *changed in changes
    ]
    answer["limit_change_ratio"] = [
        ratio(*row)
        for row in zip(inputs["credit_limit_minor"], inputs["previous_limit_minor"], strict=True)
    ]
    redeemed = [
        [[int(part) for part in message.split(":")] for message in (log or "").split()]
        for log in inputs["recent_redemptions"]
    ]
    for window, length in (("24h", day), ("7d", 7 * day)):
        # Who never redeemed has no log: that is none, as long as the account is known.
        points = [
            None
            if at is None or limit is None
            else [points for us, points in told if 0 < at - us <= length]
            for at, limit, told in zip(now, inputs["credit_limit_minor"], redeemed, strict=True)
        ]
        answer[f"redeemed_count_{window}"] = [None if p is None else len(p) for p in points]
        answer[f"redeemed_points_{window}"] = [None if p is None else sum(p) for p in points]
    return answer


def _trust_schema() -> None:
    """The schema above is complete; nothing is to be inferred.

    Feast calls the function with every input 1 and fails where the answer is null, as it rightly is
    for a usual amount known from one transaction.
    """


for view in (
    authorization_context,
    authorization_windows,
    authorization_travel,
    authorization_habits,
    authorization_novelty,
    authorization_account_state,
):
    view.infer_features = _trust_schema
