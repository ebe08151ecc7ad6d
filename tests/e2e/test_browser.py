"""The pages as a person sees them, in headless Chromium behind proxy and ingress.

UPDATE_SCREENSHOTS=1   write what was seen into docs/images
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import typing
import urllib.parse
from collections.abc import Callable, Generator

import pytest
from selenium import webdriver
from selenium.common import exceptions
from selenium.webdriver.chrome import options, service
from selenium.webdriver.common.by import By
from selenium.webdriver.support import ui

from onebox import home, stack
from tests.e2e import users

IMAGES = home.CHECKOUT / "docs" / "images"
PATIENCE = 60
"""Seconds for a page to show what it fetches, on a busy machine."""

KNOWN = (
    # The first visit, without a password.
    "status of 401",
    # MLflow's page asks who is logged in, which only its own user management can tell.
    "/users/current",
    # The assistant may run programs on the server, so the proxy refuses it.
    "/mlflow/assistant/",
)
"""Answers that are no fault of the proxy's."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[webdriver.Chrome]:
    """Chromium as Debian packages it, with a new profile and no wish to call home."""
    if not shutil.which("chromedriver"):
        for arguments in (["update"], ["install", "--no-install-recommends", "chromium-driver"]):
            subprocess.run(["apt-get", "--quiet", "--yes", *arguments], check=True)
    chosen = options.Options()
    chosen.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1400,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        chosen.add_argument(argument)
    chosen.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(chosen, service.Service("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(
    browser: webdriver.Chrome, access: stack.Access, client: users.Client
) -> webdriver.Chrome:
    """The browser, logged in, at a server with runs; the login prompt was checked before."""
    client.session(["train_wine", "plotted", "12"])
    # GIVEN a browser that knows no password WHEN it goes there
    browser.get(access.tracking_uri)
    # THEN it shows the prompt, which no screenshot has, over an empty page
    answers = [answer for answer in responses(browser) if answer["url"] == access.tracking_uri]
    assert [answer["status"] for answer in answers] == [401]
    assert header(answers[0], "www-authenticate").startswith('Basic realm="MLflow"')
    assert text(browser) == ""
    # WHEN the person logs in, which an address can do as well as the prompt
    parts = urllib.parse.urlsplit(access.tracking_uri)
    login = f"{access.username}:{urllib.parse.quote(access.password, safe='')}"
    browser.get(parts._replace(netloc=f"{login}@{parts.netloc}").geturl())
    # THEN the browser sends the login by itself from here on
    return browser


def header(answer: dict[str, typing.Any], name: str) -> str:
    return {key.lower(): value for key, value in answer["headers"].items()}[name]


def responses(browser: webdriver.Chrome) -> list[dict[str, typing.Any]]:
    """Return the responses since this was last called, oldest first."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["response"]
        for event in events
        if event["method"] == "Network.responseReceived"
    ]


def seen(browser: webdriver.Chrome, what: str, ready: Callable[[], object]) -> None:
    """Wait until a page shows something."""
    waiting = ui.WebDriverWait(
        browser, PATIENCE, ignored_exceptions=[exceptions.StaleElementReferenceException]
    )
    waiting.until(lambda _: ready(), f"{browser.current_url} does not show {what}")


def text(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def screenshot(browser: webdriver.Chrome, name: str) -> None:
    if os.environ.get("UPDATE_SCREENSHOTS"):
        # The assistant's panel, which is open on the first visit, covers a third of the page.
        for button in browser.find_elements(By.CSS_SELECTOR, "button[aria-label='Close']"):
            button.click()
        IMAGES.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(IMAGES / f"{name}.png"))


def run_path(client: users.Client) -> str:
    """Return the route of the newest run of the example, as the client prints it."""
    found = client.session("newest_run")["newest_run"]
    return f"#/experiments/{found['experiment']}/runs/{found['run']}"


def test_the_path_prefix_is_in_the_address(access: stack.Access) -> None:
    path = urllib.parse.urlsplit(access.tracking_uri).path
    assert path == f"/{stack.MODEL}-{stack.PROXY}/{stack.SERVER}/"


def test_the_list_of_experiments(page: webdriver.Chrome, access: stack.Access) -> None:
    page.get(f"{access.tracking_uri}#/experiments")
    seen(page, "the experiments", lambda: re.search(r"^wine$", text(page), re.MULTILINE))
    screenshot(page, "experiments")


def test_the_metric_plot_of_a_run(
    page: webdriver.Chrome, access: stack.Access, client: users.Client
) -> None:
    page.get(f"{access.tracking_uri}{run_path(client)}/model-metrics")
    seen(page, "the metrics", lambda: "validation_accuracy" in text(page))
    # The curve itself: the plot leaves out points on a straight line between their neighbours.
    seen(page, "a curve", lambda: max(points(page), default=0) >= 3)
    screenshot(page, "metrics")


def points(page: webdriver.Chrome) -> list[int]:
    """Return the number of points of each line of the plots."""
    lines = page.find_elements(By.CSS_SELECTOR, ".scatterlayer path.js-line")
    return [len(re.findall("[MLHV]", line.get_attribute("d") or "")) for line in lines]


def test_the_artifacts_with_the_models_files(
    page: webdriver.Chrome, access: stack.Access, client: users.Client
) -> None:
    page.get(f"{access.tracking_uri}{run_path(client)}/artifacts")
    seen(page, "the model", lambda: "model" in text(page))
    for name in ("MLmodel", "requirements.txt"):
        seen(page, name, lambda name=name: name in text(page))
    # The content of a file comes through the proxy, too.
    page.find_element(By.XPATH, "//*[text()='MLmodel']").click()
    seen(page, "the file", lambda: "sklearn" in text(page))
    screenshot(page, "artifacts")


def test_the_registered_model(page: webdriver.Chrome, access: stack.Access) -> None:
    page.get(f"{access.tracking_uri}#/models/wine")
    seen(page, "the alias", lambda: "champion" in text(page))
    screenshot(page, "model")


def test_no_request_has_left_the_prefix_or_failed(
    page: webdriver.Chrome, access: stack.Access
) -> None:
    # GIVEN the pages above THEN the console shows no error of the network
    complaints = [
        entry["message"]
        for entry in page.get_log("browser")
        if entry["source"] == "network" and not any(known in entry["message"] for known in KNOWN)
    ]
    assert complaints == []


def test_the_front_page_lists_what_is_behind_the_password(
    page: webdriver.Chrome, access: stack.Access
) -> None:
    front = access.tracking_uri.removesuffix(f"{stack.SERVER}/")
    page.get(front)
    links = [link.get_attribute("href") for link in page.find_elements(By.TAG_NAME, "a")]
    assert access.tracking_uri in links
    screenshot(page, "front")
