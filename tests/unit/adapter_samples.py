"""Small invented sources in the layouts of the public data sets."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import polars as pl

CARD_NUMBERS = ("4111111111111111", "4000056655665556", "675912345678")
"""Two that pass the Luhn check and one too short for it: all three are card numbers here."""
SECURITY_NUMBERS = ("219-09-9999", "078-05-1120", "457-55-5462")
ACCOUNT_NUMBERS = ("880022331144", "770011223344", "660099887766")


def sparkov(folder: Path) -> Path:
    """Three customers, four purchases over a month's end, one of them a fraud."""
    folder.mkdir(parents=True)
    lines = ["ssn,cc_num,first,last,gender,street,city,state,zip,lat,long,dob,acct_num"]
    lines += [
        f"{ssn},{card},Ann,Example,F,1 Main St,Town,TX,0{number}234,30.5,-97.{number},"
        f"198{number}-02-03,{account}"
        for number, (ssn, card, account) in enumerate(
            zip(SECURITY_NUMBERS, CARD_NUMBERS, ACCOUNT_NUMBERS, strict=True)
        )
    ]
    (folder / "customers.csv").write_text("\n".join(lines) + "\n")
    old_mill = "fraud_Old, Mill and Sons"
    purchases = [
        # customer, time, merchant, category, amount, is fraud
        (0, datetime(2019, 1, 31, 23, 59, 59), old_mill, "grocery_pos", "10.05", 0),
        (1, datetime(2019, 2, 1, 0, 0, 1), old_mill, "food_dining", "35625.48", 0),
        (0, datetime(2019, 2, 1, 12, 0, 0), old_mill, "grocery_pos", "1.00", 1),
        (2, datetime(2019, 2, 3, 8, 30, 0), "fraud_Netshop Ltd", "shopping_net", "0.29", 0),
    ]
    pl.DataFrame(
        {
            "trans_num": [f"{number:032x}" for number in (0xA1, 0xB2, 0xC3, 0xD4)],
            "trans_ts": [time for _, time, *_ in purchases],
            "cc_num": [CARD_NUMBERS[customer] for customer, *_ in purchases],
            "acct_num": [ACCOUNT_NUMBERS[customer] for customer, *_ in purchases],
            "merchant": [row[2] for row in purchases],
            "category": [row[3] for row in purchases],
            "amt": [Decimal(row[4]) for row in purchases],
            "merch_lat": [Decimal("30.123456")] * 4,
            "merch_long": [Decimal("-97.654321")] * 4,
            "is_fraud": [row[5] for row in purchases],
        },
        schema_overrides={"amt": pl.Decimal(10, 2), "is_fraud": pl.Int8},
    ).write_parquet(folder / "transactions.parquet")
    return folder


def handbook(folder: Path) -> Path:
    """Three transactions of two customers at two terminals, out of order, one a fraud."""
    folder.mkdir(parents=True)
    pl.DataFrame(
        {
            "TRANSACTION_ID": [2, 0, 1],
            "TX_DATETIME": [
                datetime(2018, 5, 1, 0, 0, 5),
                datetime(2018, 4, 30, 9, 0, 0),
                datetime(2018, 4, 30, 9, 0, 0),
            ],
            "CUSTOMER_ID": [7, 7, 8],
            "TERMINAL_ID": [31, 30, 31],
            "TX_AMOUNT": [57.16, 0.0, 220.29],
            "TX_FRAUD": [1, 0, 0],
            "TX_FRAUD_SCENARIO": [2, 0, 0],
        },
        schema_overrides={"TX_DATETIME": pl.Datetime("ns")},
    ).write_parquet(folder / "transactions_raw.parquet")
    return folder


def uci_taiwan(folder: Path) -> Path:
    """Two clients: one late and in default, one with a bill in their favour and `1.5E+05`."""
    folder.mkdir(parents=True)
    (folder / "UCI_Credit_Card.csv").write_text(
        "ID,LIMIT_BAL,GENDER,EDUCATION,MARRIAGE,AGE,PAY_0,PAY_2,PAY_3,PAY_4,PAY_5,PAY_6,"
        "BILL_AMT1,BILL_AMT2,BILL_AMT3,BILL_AMT4,BILL_AMT5,BILL_AMT6,"
        "PAY_AMT1,PAY_AMT2,PAY_AMT3,PAY_AMT4,PAY_AMT5,PAY_AMT6,default.payment.next.month\n"
        "1,20000,2,2,1,24,2,1,0,-1,-2,3,3900,3100,700,900,800,500,0,700,1000,800,500,100,1\n"
        "2,1.5E+05,1,1,2,40,-1,-1,-1,-1,-1,-1,-50,300,100,100,100,100,300,100,100,100,100,0,0\n"
    )
    return folder


def credit_card_approval(folder: Path) -> Path:
    """Applications 1 and 2 of one person, 3 of two people; statuses for 1, 2 and the unknown 9."""
    folder.mkdir(parents=True)
    ids = [1, 2, 3, 3]
    pl.DataFrame(
        {
            "ID": ids,
            "CODE_GENDER": ["F", "F", "M", "F"],
            "FLAG_OWN_CAR": ["N"] * 4,
            "FLAG_OWN_REALTY": ["Y"] * 4,
            "CNT_CHILDREN": [0, 0, 1, 2],
            "AMT_INCOME_TOTAL": [112500.0, 112500.0, 90000.0, 45000.5],
            "NAME_INCOME_TYPE": ["Working", "Working", "Pensioner", "Student"],
            "NAME_EDUCATION_TYPE": ["Higher education"] * 4,
            "NAME_FAMILY_STATUS": ["Married"] * 4,
            "NAME_HOUSING_TYPE": ["House / apartment"] * 4,
            "DAYS_BIRTH": [-10_900, -10_900, -20_000, -8_000],
            "DAYS_EMPLOYED": [-1000, -1000, 365_243, -10],
            "FLAG_WORK_PHONE": [0] * 4,
            "FLAG_PHONE": [0] * 4,
            "FLAG_EMAIL": [0] * 4,
            "OCCUPATION_TYPE": [None, None, None, "Drivers"],
            "CNT_FAM_MEMBERS": [2.0] * 4,
        }
    ).write_parquet(folder / "application_record.parquet")
    statuses = [
        *((1, month, status) for month, status in ((-3, "X"), (-2, "0"), (-1, "1"), (0, "5"))),
        *((2, month, status) for month, status in ((-5, "0"), (-4, "C"))),
        (9, -60, "2"),
    ]
    pl.DataFrame(
        statuses, schema=["ID", "MONTHS_BALANCE", "STATUS"], orient="row"
    ).reverse().write_parquet(folder / "credit_record.parquet")
    return folder


BIRMINGHAM_2014 = (
    "TRANS DATE,TRANS VAT DESC,ORIGINAL GROSS AMT,MERCHANT NAME,CARD NUMBER,BILLING CUR CODE,"
    "TRANS CAC CODE 1,TRANS CAC DESC 1,TRANS CAC CODE 2,TRANS CAC DESC 2,TRANS CAC CODE 3,"
    "Directorate"
)
BIRMINGHAM_2017 = (
    "TRANS DATE,TRANS VAT DESC,ORIGINAL GROSS AMT,ORIGINAL CUR,BILLING GROSS AMT,BILLING CUR CODE,"
    "TRANS TAX AMT,MERCHANT NAME,CARD NUMBER,BILLING CUR CODE,TRANS CAC CODE 1,TRANS CAC DESC 1,"
    "TRANS CAC CODE 2,TRANS CAC DESC 2,TRANS CAC CODE 3,Directorate"
)


def birmingham(folder: Path) -> Path:
    """Two layouts, refunds, a foreign purchase, rows alike, stragglers, odd and blank rows."""
    folder.mkdir(parents=True)
    (folder / "2014-07.csv").write_text(
        "\n".join(
            [
                BIRMINGHAM_2014,
                "2014-07-24 00:00:00,VR,49.72,shell mill 12,************5770,GBP,K1,Vehicle Fuel,"
                'R1,"Home, A",A00,Adult & Communities',
                "2014-07-25 00:00:00,VZ,7,post kiosk,************1111,GBP,L7,Postage,R2,X,A00,"
                "Adults & Comms",
                "2014-07-25 00:00:00,VZ,7,post kiosk,************1111,GBP,L7,Postage,R2,X,A00,"
                "Adults & Comms",
                "2014-07-26 00:00:00,VZ,-12.5,toy shop,************1111,GBP,L1,Other Third Parties,"
                "R2,X,A00,Local  Services ",
                ",,,,,,,,,,,",
                "total,,1234.00,,,,,,,,,",
            ]
        )
        + "\n"
    )
    (folder / "2014-08.csv").write_text(
        "\n".join(
            [
                BIRMINGHAM_2014,
                "2014-06-30 00:00:00,VZ,3.10,Shell  Mill 0042,************5770,GBP,K1,Vehicle Fuel,"
                "R1,X,A00,Adult & Communities",
                "2014-09-02 00:00:00,VZ,8.00,paypal *toy shop,************5770,GBP,L1,Books,R1,X,"
                "A00,Adult & Communities",
            ]
        )
        + "\n"
    )
    (folder / "2017-09.csv").write_text(
        "\n".join(
            [
                BIRMINGHAM_2017,
                "2017-09-06 00:00:00,VZ,10757,CZK,390.47,GBP,0,hotel na rohu,************8944,GBP,"
                "K2,Travel Foreign,R1,X,A00,Corporate Resources",
                "2017-09-07 00:00:00,VZ,55.30,GBP,55.30,GBP,0,helpline 4111/1111 1111-1111,"
                "************8944,GBP,K2,No Such Code,R1,X,A00,Corporate Resources",
            ]
        )
        + "\n"
    )
    return folder
