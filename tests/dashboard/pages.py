"""Looks at every page of the dashboard: light and dark, wide and 360 pixels narrow, by mouse and by keyboard.

pages.py BROWSER ADDRESS PICTURES PID
"""

import base64
import os
import re
import signal
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from browsing import FLAGS, check, until

BROWSER, ADDRESS, PICTURES, PID = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
BASE = f"http://{ADDRESS}"

# What must be on each page, as text that a person reads.
PAGES = {
    "graph": ["payments", "verdicts", "rows/s", "over payments", "features", "trees", "online", "score", "dead letters", "behind the clock"],
    "rejects": ["Dead letters", "payments", "parse", "no time", "future", "Late rows"],
    "features": ["unusual", "amount / nullif(avg(amount) over card_6h, 0)", "psi", "ks", "wallet_days"],
    "drift": ["features: psi", "features: ks", "from", "warning", "Newest readings", "amount"],
    "models": ["trees", "champion", "v1", "online", "serves", "every 1h"],
    "alerts": ["drift", "features: psi", "Event time"],
    "journal": ["promoted", "takes over", "trees", "task"],
}
SIZES = {"wide": (1440, 900), "narrow": (360, 740)}
COLOURS = {"light": "light", "dark": "dark"}


def opened(browser, size, colours, trouble):
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=COLOURS[colours],
                                  reduced_motion="reduce", device_scale_factor=1)
    page = context.new_page()
    page.on("console", lambda said: trouble.append(f"{said.type}: {said.text}") if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("requestfailed", lambda gone: trouble.append(f"failed: {gone.url}"))
    return context, page


def go(page, name):
    page.goto(f"{BASE}/#/{name}")
    page.wait_for_selector("main .page")
    for text in PAGES[name]:
        until(page, "text => document.querySelector('main').innerText.includes(text)", arg=text, timeout=20_000)


# Contrast by WCAG 2: of every text that stands on the page against what is behind it.
CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return { rgb: n.slice(0, 3), a: n[3] ?? 1 }; };
  const light = (rgb) => { const [r, g, b] = rgb.map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest(':disabled, noscript, svg, dialog')) continue;
    let behind = element;
    while (behind && parse(getComputedStyle(behind).backgroundColor).a < 1) behind = behind.parentElement;
    const back = behind ? parse(getComputedStyle(behind).backgroundColor).rgb : [255, 255, 255];
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color).rgb), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${node.data.trim().slice(0, 40)}: ${ratio.toFixed(2)} (${style.color} on ${back})`);
  }
  return [...new Set(found)];
}"""

# Whatever can be used has a name, ids are there once, and headings go down by one.
NAMES = """() => {
  const found = [];
  for (const element of document.querySelectorAll(':is(button, a, input, select, [role=application], [tabindex="0"], svg[role=img]):not(dialog:not([open]) *)')) {
    const label = element.id && document.querySelector(`label[for="${element.id}"]`);
    const name = element.getAttribute('aria-label') || element.getAttribute('aria-labelledby') || label?.textContent || element.textContent;
    if (!name.trim()) found.push(element.outerHTML.slice(0, 90));
  }
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  found.push(...ids.filter((id, n) => ids.indexOf(id) !== n).map((id) => `twice: ${id}`));
  let before = 1;
  for (const head of document.querySelectorAll('main h1, main h2, main h3, main h4')) {
    const depth = Number(head.tagName[1]);
    if (depth > before + 1) found.push(`${head.tagName} ${head.textContent} after h${before}`);
    before = depth;
  }
  return found;
}"""


def look(browser):
    PICTURES.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        for colours in COLOURS:
            trouble = []
            context, page = opened(browser, size, colours, trouble)
            for name in PAGES:
                go(page, name)
                page.wait_for_timeout(1_200)
                if name == "rejects":
                    for group in page.query_selector_all("details.group:not([open]) > summary"):
                        group.click()
                    page.evaluate("scrollTo(0, 0)")
                    page.wait_for_timeout(300)
                width = page.evaluate("document.documentElement.scrollWidth")
                check(width <= SIZES[size][0], f"{name} is {width} wide on {SIZES[size][0]} pixels")
                low = page.evaluate(CONTRAST)
                check(not low, f"{name} in {colours}: too little contrast of {low}")
                nameless = page.evaluate(NAMES)
                check(not nameless, f"{name}: {nameless}")
                page.screenshot(path=PICTURES / f"{name}-{size}-{colours}.png")
            check(page.title().endswith("Tidemill"), f"the title is {page.title()}")
            check(not trouble, f"{size}, {colours}: {trouble}")
            context.close()


def telephone(browser):
    """Four narrow pages side by side, for the document."""
    names = [("graph", "light"), ("features", "light"), ("drift", "dark"), ("models", "dark")]
    page = browser.new_page(viewport={"width": 4 * 360 + 3 * 16, "height": 740})
    pictures = [base64.b64encode((PICTURES / f"{name}-narrow-{colours}.png").read_bytes()).decode() for name, colours in names]
    images = "".join(f'<img src="data:image/png;base64,{picture}">' for picture in pictures)
    page.set_content(f'<body style="margin:0;display:flex;gap:16px;background:#8a929b">{images}')
    until(page, "[...document.images].every((image) => image.complete)")
    page.screenshot(path=PICTURES / "narrow.png")
    page.close()


def markup_is_text(page):
    """Ids and rows that look like markup are on the page as texts, and nothing of them has run."""
    go(page, "rejects")
    for group in page.query_selector_all("details.group:not([open]) > summary"):
        group.click()
    page.wait_for_timeout(2_500)
    shown = page.inner_text("main")
    check("<script>" in shown and "onerror" in shown, "what looks like markup is not shown as it is")
    check(page.query_selector("main script, main img") is None, "markup of a row became an element")
    check("taken over" not in page.title(), "markup of a row was run")
    check(page.query_selector("details.group[open]") is not None, "what was opened is still open after updates")


def numbers_move(page):
    """What is shown is what the API says, and it goes on."""
    go(page, "graph")
    rows = lambda: int(re.search(r"([\d,]+) in all", page.inner_text(".tiles li:first-child")).group(1).replace(",", ""))
    before = rows()
    until(page,
        "before => Number(document.querySelector('.tiles li').innerText.match(/([\\d,]+) in all/)[1].replaceAll(',', '')) > before",
        arg=before, timeout=15_000)
    said = page.evaluate("fetch('/api/v1/status').then((answer) => answer.json())")
    check(before < said["rows"], f"the page shows {before} rows, the API {said['rows']}")
    until(page, "document.querySelectorAll('.lines path').length >= 12", timeout=10_000)


def keyboard(page):
    """Everything is reached by keys: the skip link first, the map of drift by its arrows."""
    go(page, "drift")
    page.reload()
    go(page, "drift")
    page.keyboard.press("Tab")
    check(page.evaluate("document.activeElement.className") == "skip", "the first stop is the link to the content")
    page.focus("#map")
    before = page.inner_text("#reading")
    for key in ("ArrowDown", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    said = page.inner_text("#reading")
    check(said != before and re.search(r"stable|warning|drift|no reading", said), f"the map says `{said}`")
    page.wait_for_timeout(3_500)
    check(page.evaluate("document.activeElement.id") == "map", "the focus outlives an update")
    go(page, "features")
    page.fill("#find", "shop_")
    until(page, "document.querySelectorAll('tbody tr').length === 2")
    page.fill("#find", "nothing of the kind")
    until(page, "document.querySelector('main').innerText.includes('No feature has such a name')")
    go(page, "journal")
    first = page.inner_text(".records li:first-child .n")
    page.click("text=Older")
    until(page, "first => document.querySelector('.records li .n')?.innerText !== first", arg=first)
    page.click("text=Newest")


def a_trial_is_drawn(page):
    """A version on trial, put into a real answer: this pipeline promotes by its gate, so that none is on trial for long."""
    growth = [{"rows": 10 * n, "better": 1.04 ** n, "worse": 0.97 ** n} for n in range(100)]
    trial = {"version": 2, "against": 1, "stage": "canary", "share": 0.25, "since": "2026-01-01T00:00:00Z", "rows": 990,
             "mean": -0.0123, "standard_error": 0.004, "better_at": 20, "worse_at": 100, "growth": growth}

    def with_trial(route):
        answer = route.fetch()
        models = answer.json()
        models["models"][0]["trial"] = trial
        route.fulfill(response=answer, json=models)

    page.route("**/api/v1/models", with_trial)
    go(page, "models")
    page.wait_for_selector(".evidence path.capital.better")
    said = page.inner_text(".trial")
    for text in ("Version 2 on trial against 1: canary", "25.0 % of the keys", "-0.0123 nats", "of 20 for better", "of 100 for worse"):
        check(text in said, f"`{text}` is not in {said}")
    heights = [float(point.split(" ")[1]) for point in page.get_attribute(".evidence path.capital.better", "d")[1:].split("L")]
    check(heights == sorted(heights, reverse=True) and heights[0] > heights[-1] + 20, f"evidence that grows does not rise: {heights}")
    page.screenshot(path=PICTURES / "trial-wide-light.png")
    page.unroute("**/api/v1/models")


def nobody_answers(page):
    """A program that is gone is told, and so is that it is back."""
    go(page, "graph")
    os.kill(PID, signal.SIGSTOP)
    try:
        page.wait_for_selector("#lost:not([hidden])", timeout=30_000)
        check("does not answer" in page.inner_text("#lost"), page.inner_text("#lost"))
        check(page.inner_text("#state") == "no answer", page.inner_text("#state"))
        page.screenshot(path=PICTURES / "lost-wide-light.png")
    finally:
        os.kill(PID, signal.SIGCONT)
    page.wait_for_selector("#lost", state="hidden", timeout=30_000)
    check(page.inner_text("#state") == "running", page.inner_text("#state"))


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
    look(browser)
    telephone(browser)
    trouble = []
    context, page = opened(browser, "wide", "light", trouble)
    markup_is_text(page)
    numbers_move(page)
    keyboard(page)
    a_trial_is_drawn(page)
    check(not trouble, trouble)
    nobody_answers(page)
    context.close()
    browser.close()
print("all is well")
