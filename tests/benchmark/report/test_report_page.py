"""``bench report`` in a real browser, from ``file://``."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.report_store import content, folder_of, gallery, of

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium in PATH (Debian: apt install chromium)")
READY = "document.documentElement.dataset.ready"
TITLES = "[...document.querySelectorAll('.grid button')].map(b => b.querySelector('span').textContent)"
OPEN = "document.getElementById('item').open"
# Every picture in view is a file that can be decoded.
LOADED = """Promise.all([...document.querySelectorAll('.tile')].map(tile => {
  const image = new Image();
  image.src = tile.style.backgroundImage.slice(5, -2);
  return image.decode().then(() => image.naturalWidth);
})).then(widths => widths.length && widths.every(w => w > 0))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def opened(browser, page):
    """A browser at the report; whatever the test does, no error may be in its console and no request leave the disk."""
    yield from visit(browser, page)


@pytest.fixture
def opened_extended(browser, extended):
    """The same at the report with a ladder and published numbers."""
    yield from visit(browser, extended)


def visit(browser, page):
    browser.errors.clear()
    browser.urls.clear()
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.open("about:blank")
    browser.open((page / "index.html").as_uri(), READY)
    browser.js("localStorage.clear()")
    yield browser
    assert browser.errors == []
    assert browser.urls
    assert all(url.startswith((page.as_uri(), "data:", "about:")) for url in browser.urls), browser.urls


def choose(browser, name, value):
    browser.js(f"(s => {{ s.value = {value!r}; s.dispatchEvent(new Event('change')); }})($('choose-{name}'))")


@needs_chromium
def test_browser_sorts(opened, page):
    table = content(page / "data/tiny.js")["tables"][0]
    methods = "[...document.querySelectorAll('section')[0].querySelectorAll('tbody th button')].map(b => b.textContent)"
    heads = "[...document.querySelectorAll('section')[0].querySelectorAll('thead th')]"
    assert opened.js(methods) == [r["label"] for r in table["rows"]]
    for name, first in (("l1", False), ("cosine", True)):
        known = {r["label"]: r["metrics"][name]["value"] for r in table["rows"] if name in r["metrics"]}
        absent = [r["label"] for r in table["rows"] if name not in r["metrics"]]
        place = opened.js(f"{heads}.findIndex(th => th.textContent.startsWith('{name} '))")
        for descending in (first, not first):  # the best first, then the worst
            opened.click("section:first-of-type thead button", place)
            assert opened.js(methods) == sorted(known, key=known.get, reverse=descending) + absent
            assert opened.js(f"{heads}[{place}].ariaSort") == ("descending" if descending else "ascending")


@needs_chromium
def test_browser_filters_and_toggles_controls(opened):
    methods = "[...new Set([...document.querySelectorAll('tbody th button')].map(b => b.textContent))].sort().join()"
    assert opened.js(methods) == "broken,oracle,ridge,staged"
    opened.key("/")
    assert opened.js("document.activeElement.id") == "filter"
    for letter in "STAG":
        opened.key(letter)
    assert opened.js(methods) == "staged"
    opened.key("Escape")
    assert opened.js("document.getElementById('filter').value") == ""
    assert opened.js(methods) == "broken,oracle,ridge,staged"
    opened.click("#controls")
    assert opened.js(methods) == "broken,ridge,staged"


@needs_chromium
def test_browser_shows_a_rows_runs(opened):
    place = opened.js("[...document.querySelectorAll('tbody th button')].findIndex(b => b.textContent === 'broken')")
    opened.click("tbody th button", place)
    assert "failed: train: RuntimeError: it broke" in opened.js("document.querySelector('tr.more').textContent")
    assert opened.js("document.activeElement.getAttribute('aria-expanded')") == "true"


@needs_chromium
def test_browser_opens_the_card_of_a_run(opened, page):
    run = of(gallery(page), "staged")
    place = opened.js("[...document.querySelectorAll('tbody th button')].findIndex(b => b.textContent === 'staged')")
    opened.click("tbody th button", place)
    opened.js("document.querySelector('tr.more a').focus()")
    opened.key("Enter")
    opened.wait(f"{READY} === '#run/tiny/{run['run_id']}' && document.querySelector('.prose h3') !== null")
    assert opened.js("document.querySelector('h2').textContent") == "staged on tiny/S1 seed 0"
    assert opened.js("document.querySelectorAll('section').length") == 0  # the boards are gone
    figures = "[...document.querySelectorAll('.figures img')]"
    assert min(opened.js(f"Promise.all({figures}.map(i => i.decode().then(() => i.naturalWidth)))")) > 100
    saved = opened.js("fetch(document.querySelector('a[download]').href).then(r => r.text())")
    assert saved == (folder_of(page.parent, run) / "card.json").read_text()
    opened.js("history.back()")
    opened.wait("document.querySelectorAll('section').length == 3")


@needs_chromium
def test_browser_shows_what_stands_below_the_tables(opened_extended):
    browser = opened_extended
    titles = "[...document.querySelectorAll('summary')].map(s => s.textContent)"
    found = browser.js(titles)
    assert found.count("By subject") == 3
    for title, text in (
        ("Differences from ridge", "staged"),
        ("Ladder", "0.987"),
        ("Reported elsewhere (not measured here, not ranked)", "<img src=x> et al. 2020"),
    ):
        element = f"document.querySelectorAll('summary')[{found.index(title)}]"
        assert not browser.js(f"{element}.parentElement.open")
        browser.js(f"{element}.focus()")
        browser.key("Enter")
        browser.wait(f"{element}.parentElement.open")
        assert text in browser.js(f"{element}.parentElement.querySelector('table').innerText")
    assert browser.js("document.querySelectorAll('main img').length") == 0


@needs_chromium
def test_browser_shows_values_by_subject(opened, page):
    table = content(page / "data/tiny.js")["tables"][0]
    part = "[...document.querySelectorAll('details')].find(d => d.textContent.startsWith('By subject'))"
    for name in (table["ranked"], "cosine"):
        choice = f"s.value = {name!r}; s.dispatchEvent(new Event('change'))"
        opened.js(f"{part}.open = true; (s => {{ {choice} }})({part}.querySelector('select'))")
        shown = opened.js(f"[...{part}.querySelectorAll('tr')].map(r => [...r.children].map(c => c.textContent))")
        assert shown[0] == ["method", "mean", "S1", "S2"]
        rows = [row for row in table["rows"] if name in row["metrics"]]
        for row, (label, mean, *values) in zip(rows, shown[1:], strict=True):
            known = row["metrics"][name]
            assert label == row["label"]
            assert [float(mean), *map(float, values)] == pytest.approx(
                [known["value"], *known["subjects"].values()], abs=5.1e-4 if known["value"] < 10 else 0.051
            )


@needs_chromium
def test_browser_is_no_wider_than_a_phone(opened, page):
    run, item = (gallery(page)[name][0] for name in ("runs", "items"))
    name = item["id"].replace("/", "%2F")
    views = ("#boards/tiny", "#gallery/tiny/0", f"#run/tiny/{run['run_id']}", f"#gallery/tiny/0/{name}")
    opened.call("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
    for view in views:
        opened.js(f"location.hash = {view!r}")
        opened.wait(f"{READY} === {view!r}")
        for element in ("document.documentElement", "document.querySelector('#item')"):
            assert opened.js(f"{element}.scrollWidth <= {element}.clientWidth"), (view, element)
    opened.call("Emulation.setDeviceMetricsOverride", width=1400, height=900, deviceScaleFactor=1, mobile=False)


@needs_chromium
def test_browser_opens_items_and_moves_between_them(opened, page):
    found = gallery(page)
    opened.click("nav a", 1)
    opened.wait(f"{TITLES}.length == 6")
    assert opened.js(LOADED)
    names = [i["name"] for i in found["items"]]
    for label in ("ridge", "staged"):
        choose(opened, "method", label)
        metric = opened.js("document.getElementById('choose-metric').value").split("/")
        value = dict(zip(names, of(found, label)["scores"][metric[0]][metric[1]], strict=True))
        shown = opened.js(TITLES)
        assert shown == sorted(names, key=lambda n: (value[n], names.index(n)))  # worst first
        assert metric[1] == found["ranked"][metric[0]]
    opened.js("document.querySelectorAll('.grid button')[1].focus()")
    opened.key("ArrowRight")
    opened.key("Enter")
    opened.wait(OPEN)
    title = "document.getElementById('item-title').textContent"
    assert shown[2] in opened.js(title)
    assert opened.js(LOADED)
    cards = opened.js("[...document.querySelectorAll('.card h3')].map(h => h.firstChild.textContent)")
    assert cards == [r["label"] for r in found["runs"]]
    text = opened.js("document.getElementById('item').textContent")
    row = names.index(shown[2])
    assert of(found, "staged")["captions"][row] in text  # shown as it is, not run
    assert "first <stage>" in text
    assert opened.js("document.querySelectorAll('#item img, #item stage').length") == 0
    assert opened.js("document.querySelectorAll('#item .right').length") >= 1  # the oracle's
    opened.key("ArrowRight")
    opened.wait(f"{title}.includes({shown[3]!r})")
    opened.key("ArrowLeft")
    opened.wait(f"{title}.includes({shown[2]!r})")
    opened.key("Escape")
    opened.wait(f"!{OPEN}")
    opened.wait(f"location.hash == '#gallery/tiny/0' && document.activeElement.textContent.includes({shown[2]!r})")
    opened.key("/")
    for letter in shown[4]:
        opened.key(letter)
    assert opened.js(TITLES) == [shown[4]]


@needs_chromium
def test_browser_draws_the_right_tile(opened, page, made, tmp_path):
    """Pixels of the screen: 16 x 16 pictures are drawn six times as large, without blending."""
    opened.click("nav a", 1)
    opened.wait(f"{TITLES}.length == 6")
    assert opened.js(LOADED)
    opened.screenshot(tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as picture:
        seen = np.asarray(picture.convert("RGB"))
    images = np.load(made / "tiny/images.npy")
    for place, name in enumerate(opened.js(TITLES)):
        tile = (
            f"(r => [r.x, r.y, r.width, r.height])(document.querySelectorAll('.tile')[{place}].getBoundingClientRect())"
        )
        x, y, width, height = (round(v) for v in opened.js(tile))
        assert (width, height) == (96, 96)
        inner = seen[y + 3 : y + 96 : 6, x + 3 : x + 96 : 6]  # the middle of every enlarged pixel
        np.testing.assert_array_equal(inner, images[int(name[4:])])


@needs_chromium
def test_browser_orders_and_an_address_opens_an_item(opened, page):
    found = gallery(page)
    names = [i["name"] for i in found["items"]]
    item = found["items"][3]["id"].replace("/", "%2F")
    opened.open("about:blank")
    opened.open(f"{(page / 'index.html').as_uri()}#gallery/tiny/0/{item}", READY)
    opened.wait(OPEN)
    assert found["items"][3]["name"] in opened.js("document.getElementById('item-title').textContent")
    opened.click("#item .head button", 2)
    opened.wait(f"!{OPEN}")
    worst = opened.js(TITLES)
    orders = {}
    for order in ("best", "listed", "random"):
        choose(opened, "order", order)
        orders[order] = opened.js(TITLES)
        assert sorted(orders[order]) == sorted(names)
    assert orders["listed"] == names
    metric = opened.js("document.getElementById('choose-metric').value").split("/")
    scores = dict(zip(names, found["runs"][0]["scores"][metric[0]][metric[1]], strict=True))
    assert [scores[n] for n in orders["best"]] == [scores[n] for n in worst[::-1]]
    choose(opened, "order", "random")
    opened.click(".bar button")
    assert opened.js(TITLES) != orders["random"]


@needs_chromium
def test_browser_themes(opened, page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.js(ground)
    opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    opened.wait(f"{ground} !== {light!r}")  # follows the system
    dark = opened.js(ground)
    opened.click("#theme")
    assert opened.js(ground) == light
    opened.open("about:blank")
    opened.open((page / "index.html").as_uri(), READY)
    assert opened.js(ground) == light  # the choice is kept
    opened.click("#theme")
    assert opened.js(ground) == dark


@needs_chromium
def test_browser_contrast(opened):
    """Text of every role has the contrast of WCAG 2 AA (4.5) on every ground, in both themes."""
    for theme in ("light", "dark"):
        opened.js(f"document.documentElement.dataset.theme = '{theme}'")
        style = "getComputedStyle(document.documentElement).getPropertyValue"
        colour = {
            n: opened.js(f"{style}('--{n}')").strip()
            for n in ("ground", "raised", "chosen", "text", "muted", "accent", "right")
        }
        for name in ("text", "muted", "accent", "right"):
            for under in ("ground", "raised", "chosen"):
                assert contrast(colour[name], colour[under]) >= 4.5, (theme, name, under)


def contrast(a, b):
    """Return the contrast ratio of two colours (#rgb or #rrggbb) as WCAG 2 defines it."""

    def luminance(text):
        digits = text.lstrip("#")
        digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
        channels = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)
