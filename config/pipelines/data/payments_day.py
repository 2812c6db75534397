"""Makes payments_day.csv: one made-up day of card payments, for fraud_scoring.toml.

    python payments_day.py > payments_day.csv && zstd -19 --rm payments_day.csv

Nobody's payments: every number comes from the seed below. u, v and w are uniform on [0, 1); the
pipeline turns them further each day, so that no two days are alike.
"""

import random
from datetime import datetime, timedelta, timezone

DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
CATEGORIES = {  # share of payments, typical amount
    "groceries": (0.34, 32.0),
    "fuel": (0.12, 48.0),
    "restaurants": (0.18, 27.0),
    "clothing": (0.11, 65.0),
    "travel": (0.06, 240.0),
    "electronics": (0.09, 180.0),
    "gift_cards": (0.10, 50.0),
}
COUNTRIES = ["DE", "FR", "IT", "NL", "PL"]


def main():
    draw = random.Random(20260101)
    home = [draw.choice(COUNTRIES) for _ in range(700)]
    names = list(CATEGORIES)
    shares = [CATEGORIES[name][0] for name in names]
    rows = []

    def pay(second, card, category, country, burst):
        typical = CATEGORIES[category][1]
        base = 8.0 if burst else typical * draw.lognormvariate(0.0, 0.6)
        shop = f"{category}-{country}-{draw.randrange(12)}"
        rows.append((second, card, shop, category, country, home[card], int(burst), base))

    while len(rows) < 4_000:
        # People pay by day: the hour is drawn around 14, with some at night.
        hour = draw.gauss(14, 4.5) % 24 if draw.random() < 0.93 else draw.uniform(0, 24)
        second = int(hour * 3600) % 86_400
        card = min(int(draw.paretovariate(0.9)) - 1 + draw.randrange(60), 699)
        country = home[card] if draw.random() < 0.9 else draw.choice(COUNTRIES)
        # A stolen number is tried out with small amounts, one after another.
        if draw.random() < 0.004:
            for k in range(draw.randint(4, 7)):
                pay((second + 25 * k) % 86_400, card, "gift_cards", country, True)
        else:
            pay(second, card, draw.choices(names, shares)[0], country, False)
    rows.sort(key=lambda row: row[0])
    print("id,at,card,shop,category,country,home,burst,base,u,v,w")
    for n, (second, card, shop, category, country, at_home, burst, base) in enumerate(rows[:4_000], 1):
        at = (DAY + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ")
        chances = ",".join(f"{draw.random():.6f}" for _ in range(3))
        print(f"{n},{at},{card},{shop},{category},{country},{at_home},{burst},{base:.2f},{chances}")


main()
