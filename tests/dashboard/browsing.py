"""What the scripts that drive the dashboard share: a browser's flags, a check, a wait."""

import time

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars"]


def check(truth, what):
    if not truth:
        raise SystemExit(f"not so: {what}")


def until(page, question, arg=None, timeout=20_000):
    """Asks the page until it says yes. Playwright's own waiting would be text that is run within the page, which its policy forbids."""
    end = time.monotonic() + timeout / 1000
    while not page.evaluate(question, arg):
        if time.monotonic() > end:
            raise SystemExit(f"not within {timeout} ms: {question} {arg or ''}\n{page.inner_text('body')[:2000]}")
        time.sleep(0.1)
