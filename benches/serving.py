"""Writes a pipeline of so many features and trees, its data, and bodies for `tidemill load`.

    python3 benches/serving.py FOLDER [--features 1000] [--trees 200] [--cards 10000] [--together 1]
"""

import argparse
import json
import pathlib
import random

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--features", type=int, default=1000)
parser.add_argument("--trees", type=int, default=200)
parser.add_argument("--cards", type=int, default=10_000)
parser.add_argument("--together", type=int, default=1, help="cards that a body asks for")
asked = parser.parse_args()
asked.folder.mkdir(parents=True, exist_ok=True)
dice = random.Random(7)
rows = 2 * asked.cards

with open(asked.folder / "payments.jsonl", "w") as payments, open(
    asked.folder / "verdicts.jsonl", "w"
) as verdicts:
    for n in range(rows):
        second = n * 86_400 // rows
        at = f"2026-01-{1 + second // 86_400:02}T{second % 86_400 // 3600:02}:{second % 3600 // 60:02}:{second % 60:02}Z"
        amount = round(dice.lognormvariate(3, 1), 2)
        card = f"c{dice.randrange(asked.cards)}" if n >= asked.cards else f"c{n}"
        print(json.dumps({"id": n, "card": card, "amount": amount, "at": at}), file=payments)
        fraud = dice.random() < min(0.9, amount / 200)
        print(json.dumps({"id": n, "fraud": fraud, "at": at}), file=verdicts)

features = "\n".join(
    f'f{n} = "ln(1 + amount) * {1 + n / 1000} + {n % 7} * sin(amount * {1 + n % 13})"'
    if n % 2
    else f'f{n} = "sum(amount) over card_1d * {1 + n / 1000} + cos(amount * {1 + n % 11})"'
    for n in range(asked.features)
)
(asked.folder / "shop.toml").write_text(
    f"""[pipeline]
name = "shop"
spine = "payments"

[source.payments]
type = "file"
path = "payments.jsonl"
schema = {{ id = "int64", card = "string", amount = "float64", at = "timestamp" }}
event_time = "at"
id = "id"

[source.verdicts]
type = "file"
path = "verdicts.jsonl"
schema = {{ id = "int64", fraud = "bool", at = "timestamp" }}
event_time = "at"
id = "id"

[windows]
card_1d = {{ by = "card", last = "1d" }}

[features]
{features}

[label.fraud]
over = "verdicts"
value = "fraud"
wait = "1m"

[model.trees]
type = "gradient_boosting"
label = "fraud"
trees = {asked.trees}
retrain = {{ on = ["every 6h"], takes = "1m" }}
training = {{ max_rows = 5_000 }}
promote = {{ when = "always" }}

[score]
champion = "trees"

[online]
entity = "card"
"""
)
with open(asked.folder / "bodies.jsonl", "w") as bodies:
    for _ in range(1_000):
        cards = [f"c{dice.randrange(asked.cards)}" for _ in range(asked.together)]
        tensor = {"name": "card", "shape": [asked.together], "datatype": "BYTES", "data": cards}
        print(json.dumps({"inputs": [tensor]}), file=bodies)
