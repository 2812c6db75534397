"""Signs in as people of three roles and looks what each may do; the operator rolls back and promotes, the approver approves.

roles.py BROWSER ADDRESS PICTURES VIEWER OPERATOR APPROVER
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from browsing import FLAGS, check, until

BROWSER, ADDRESS, PICTURES = sys.argv[1], sys.argv[2], Path(sys.argv[3])
TOKENS = dict(zip(["viewer", "operator", "approver"], sys.argv[4:7]))
BASE = f"http://{ADDRESS}"


def signed_in(browser, role):
    page = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce").new_page()
    page.goto(f"{BASE}/#/models")
    page.wait_for_selector("#sign-in[open]", timeout=20_000)
    check("wants to know" in page.inner_text("#sign-in-why"), page.inner_text("#sign-in-why"))
    if role == "viewer":
        page.screenshot(path=PICTURES / "sign-in-wide-light.png")
        page.fill("#token", "tm_wrong")
        page.press("#token", "Enter")
        until(page, "document.querySelector('#sign-in-why').innerText.includes('not known')", timeout=20_000)
    page.fill("#token", TOKENS[role])
    page.click("#sign-in-form button")
    page.wait_for_selector("main table", timeout=20_000)
    check(f"({role})" in page.inner_text("#who"), page.inner_text("#who"))
    check(TOKENS[role] not in page.content(), "the token is in the page")
    return page


def buttons(page):
    return page.eval_on_selector_all("main .act button", "all => all.map((button) => button.innerText)")


# What came of the last order.
SAID = "() => document.querySelector('main .said:not([hidden])')?.innerText ?? ''"


def order(page, name, why):
    """Presses a button, gives the reason, and says what came of it."""
    before = page.evaluate(SAID)
    page.click(f"main .act button[aria-label='{name}']")
    page.wait_for_selector("#confirm[open]")
    check(name in page.inner_text("#confirm"), page.inner_text("#confirm"))
    page.press("#why", "Enter")
    check(page.query_selector("#confirm[open]"), "an order without a reason was taken")
    page.fill("#why", why)
    page.screenshot(path=PICTURES / "confirm-wide-light.png")
    page.press("#why", "Enter")
    until(page, f"before => {{ const now = ({SAID})(); return now !== before && /holds from epoch|Not done|waits/.test(now); }}",
          arg=before, timeout=30_000)
    return page.evaluate(SAID)


def of_trees(page, stage):
    """Numbers of the versions of the trees that are in this stage, the newest first."""
    rows = page.eval_on_selector_all("main section[data-key=trees] tbody tr", """all => all.map((row) =>
        [row.querySelector('th').innerText, row.querySelector('.stage').className])""")
    return [int(version.strip()[1:]) for version, classes in rows if stage in classes.split()]


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)

    page = signed_in(browser, "viewer")
    check(buttons(page) == [], f"a viewer has {buttons(page)}")
    check("trees" in page.inner_text("main"), "a viewer sees the models")

    page = signed_in(browser, "operator")
    check({"Promote", "Roll back", "Retrain"} == set(buttons(page)), f"an operator has {buttons(page)}")
    [champion] = of_trees(page, "champion")
    said = order(page, f"Roll back trees version {champion}", "it refuses everybody")
    check("holds from epoch" in said, said)
    until(page, "n => [...document.querySelectorAll('main section[data-key=trees] tbody tr')].some((row) => row.innerText.includes(`v${n}`) && row.innerText.includes('rolled back'))",
                           arg=champion, timeout=20_000)
    page.screenshot(path=PICTURES / "rolled-back-wide-light.png")
    said = order(page, f"Promote trees version {champion}", "it was right after all")
    check("holds from epoch" in said, said)
    until(page, "n => document.querySelector('main section[data-key=trees]').innerText.includes(`version ${n} is in charge`)", arg=champion, timeout=20_000)
    page.click("main section[data-key=trees] .moments summary")
    page.wait_for_timeout(500)
    told = page.inner_text("main section[data-key=trees] .moments")
    check("it refuses everybody" in told and "it was right after all" in told, told)
    page.screenshot(path=PICTURES / "orders-wide-light.png")

    said = order(page, "Retrain trees", "the new shops are in the data")
    check("retrain trees" in said and "holds from epoch" in said, said)

    page = signed_in(browser, "approver")
    check("Approve" in buttons(page) or not any(of_trees(page, stage) for stage in ("new", "shadow", "canary")), f"an approver has {buttons(page)}")
    # What the run refuses is said with its reason: this approver may approve, and not promote.
    former = of_trees(page, "former")[0]
    said = order(page, f"Promote trees version {former}", "to see whether I may")
    check("Not done" in said and "approver" in said, said)
    browser.close()
print("all is well")
