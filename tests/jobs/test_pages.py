"""The pages that people look at, in a real browser: a run's, a comparison's and a study's."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from liit.engine.comparison.cells import Comparison
from liit.engine.comparison.contrast_page import write_contrast
from liit.tune.outcome import Outcome
from liit.tune.spaces import Study

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
SWITCHES = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here; Debian has them as chromium and chromium-driver")
    options = ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for switch in (*SWITCHES, "disable-component-update", f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{switch}")
    driver = Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


def compared(folder: Path, finished: Path) -> Path:
    """A comparison of four methods with two seeds: made-up answers on the stream of the finished run."""
    results, found = folder / "cells", json.loads((finished / "results.json").read_text())
    results.mkdir()
    common = {key: found[key] for key in ("releases", "samples", "parse_failures")}
    seconds = {"scoring": 1.0, "selection": 1.0, "training": 2.0, "evaluation": 1.0}
    common |= {"settings": "now", "seconds": seconds, "scored": 50, "commit": "c", "date": "d", "hardware": "h"}
    names = ("sequential", "random", "adapt-inf", "perplexity")
    cells = [(name, seed) for name in names for seed in (0, 1)]
    for place, (name, seed) in enumerate(cells):
        values = [[10.0 * t + 7 * place % 60, 90 - 20.0 * t + place] for t in range(3)]
        accuracy = [dict(zip(("colour", "sum"), row, strict=True)) for row in values]
        answers = {f"exam-{skill}": [[row[skill]] * 4 for row in accuracy] for skill in ("colour", "sum")}
        own = {"method": name, "seed": seed, "accuracy": accuracy, "answers": answers}
        own["skills"] = {"exam-colour": "colour", "exam-sum": "sum"}
        (results / f"{name}-s{seed}.json").write_text(json.dumps(common | own))
    comparison = Comparison(config="small.yaml", seeds=(0, 1), methods={name: {} for name in names})
    current = {f"{name}-s{seed}": "now" for name, seed in cells}
    write_contrast(results, folder, comparison, current, dict.fromkeys(names, (2, 1)))
    return folder / "report.html"


def studied(folder: Path) -> Path:
    study = Study(kind="training", space={"strategy.budget": [5, 10, 20]}, metric="accuracy", mode="max")
    trials = [{"trial": trial, "figures": {"accuracy": 40.0 + i}} for i, trial in enumerate(study.trials())]
    Outcome(study, trials, None).write(folder)
    return folder / "report.html"


@pytest.mark.parametrize("kind", ["run", "comparison", "study"])
def test_a_page_is_whole_offline_and_readable_on_a_phone(
    kind: str, browser: Chrome, finished: Path, tmp_path: Path
) -> None:
    makers = {"run": lambda: finished / "report.html", "comparison": lambda: compared(tmp_path, finished)}
    page = (makers | {"study": lambda: studied(tmp_path)})[kind]()
    assert page.stat().st_size < 5e6
    for name, width, scheme in (("wide", 1200, "light"), ("phone", 390, "dark")):
        show(browser, page, width, scheme)
        assert browser.get_log("browser") == []
        images = browser.find_elements(By.TAG_NAME, "img")
        assert images
        for image in images:
            assert image.get_attribute("alt")
            assert float(image.get_attribute("width") or 0) > 0
            assert float(image.get_attribute("height") or 0) > 0
            assert browser.execute_script("return arguments[0].naturalWidth", image) > 0
        fetched = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
        assert all(address.startswith("data:") for address in fetched)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        keep(browser, f"{kind}-{name}.png")


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_tables_sort_by_number_and_by_word(kind: str, browser: Chrome, finished: Path, tmp_path: Path) -> None:
    """By the first number of a cell where there is an interval or a deviation with it."""
    page = finished / "report.html" if kind == "run" else compared(tmp_path, finished)
    show(browser, page, 1200, "light")
    tables = browser.find_elements(By.TAG_NAME, "table")
    assert len(tables) >= 3
    for table in tables:
        for place, head in enumerate(table.find_elements(By.CSS_SELECTOR, "thead th")):
            for direction in ("descending", "ascending"):
                head.click()
                assert head.get_attribute("aria-sort") == direction
                rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
                shown = pd.Series([row.find_elements(By.TAG_NAME, "td")[place].text for row in rows])
                first = shown.str.replace(",", "").str.extract(r"^([+-]?[\d.]+)(?:$| ± | \()", expand=False)
                numbers = pd.to_numeric(first, errors="coerce")
                if numbers.notna().all():
                    assert (
                        numbers.is_monotonic_decreasing
                        if direction == "descending"
                        else numbers.is_monotonic_increasing
                    )


def test_text_of_data_sets_is_shown_and_not_run(browser: Chrome, finished: Path) -> None:
    show(browser, finished / "report.html", 1200, "light")
    assert browser.title == "small"
    shown = browser.find_element(By.TAG_NAME, "body").text
    assert "<script>document.title = 'changed'</script>" in shown
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1


def show(browser: Chrome, page: Path, width: int, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    metrics: dict[str, Any] = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


def keep(browser: Chrome, name: str) -> None:
    """A picture of the whole page below build/screenshots, for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    (SCREENSHOTS / name).write_bytes(base64.b64decode(shot["data"]))
