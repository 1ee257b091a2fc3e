"""The Circuits page in a real browser, in front of a real Flower, worker and store."""

from __future__ import annotations

import base64
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoAlertPresentException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from resilience import CIRCUIT_BREAKERS, get_circuit_breaker
from tests.fleet import wait_for
from tests.system import System, get, running_system, start_flower

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOGIN = "Basic " + base64.b64encode(b"ann:pass").decode()
PHONE = 360
TOUCHED = ("finnhub", "polygon", "fred")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("circuits-page")) as made:
        yield made


@pytest.fixture(scope="module")
def flower(system: System) -> str:
    return start_flower(system, "flower", "--basic-auth=ann:pass")


@pytest.fixture(scope="module")
def chromium(flower: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    made = Chromium(flower, tmp_path_factory.mktemp("chromium"))
    try:
        yield made
    finally:
        made.driver.quit()


@pytest.fixture
def page(chromium: Chromium, system: System) -> Iterator[Chromium]:
    system.calm()
    chromium.size(1280, 1800)
    yield chromium
    for service in TOUCHED:
        get_circuit_breaker(service).reset()
    told = chromium.driver.get_log("browser")  # of the script's errors, and what the pages' policy forbids
    assert [entry for entry in told if entry["source"] != "network"] == []


class Chromium:
    """A browser that has logged in to Flower once, as ann."""

    def __init__(self, flower: str, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in (
            "headless=new",
            "no-sandbox",  # Chromium's own does not start as root, as in a container
            "disable-dev-shm-usage",
            "window-size=1280,1800",
            "force-prefers-reduced-motion",  # Flower's pages scroll softly, and a click would miss
            f"user-data-dir={profile}",
            "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        ):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService("/usr/bin/chromedriver")
        self.driver = webdriver.Chrome(options=options, service=service)
        self.flower = flower
        self.driver.get(flower.replace("//", "//ann:pass@") + "/circuits")

    def size(self, width: int, height: int) -> None:
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)

    def theme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, path: str) -> None:
        """Until Flower's own navigation is there, as on every page of it."""
        self.driver.get(self.flower + path)
        shown = "return document.readyState + ' ' + location.href + ' ' + document.body?.innerText"
        try:
            wait_for(lambda: self.all(".app-nav"), 20)
        except AssertionError:
            raise AssertionError(f"no page of Flower's at {path}: {self.js(shown)}") from None

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """As it is now: the page replaces what has changed."""
        try:
            found = self.all(selector)
            return found[0].text if found else ""
        except StaleElementReferenceException:
            return ""

    def focused(self) -> Any:
        return self.driver.switch_to.active_element

    def alert(self) -> Any:
        try:
            return self.driver.switch_to.alert
        except NoAlertPresentException:
            return None

    def order(self, act: str, seconds: str, reason: str) -> str:
        """Fill in the controls, with the keyboard alone; returns what the page answers."""
        self.js("document.querySelector('#circuit-act output').textContent = ''")
        self.js("document.querySelector('#circuit-act').reset()")
        choice = self.one(f"#circuit-act input[value={act}]")
        self.js("arguments[0].focus()", choice)
        choice.send_keys(Keys.SPACE)
        if seconds:
            self.one(f"#circuit-seconds option[value='{seconds}']").click()
        self.one("#circuit-reason").send_keys(reason, Keys.ENTER)
        return str(wait_for(lambda: self.text("#circuit-act output"), 10, f"{act} is answered"))


def post(url: str, form: dict[str, str], *, token: bool = True, **headers: str) -> tuple[int, str]:
    """What a program gets that sends a page's form; with a token as a browser would have it."""
    cookie = {"Cookie": "_xsrf=0123456789abcdef0123456789abcdef"} if token else {}
    fields = form | ({"_xsrf": "0123456789abcdef0123456789abcdef"} if token else {})
    request = urllib.request.Request(  # noqa: S310 - our own address
        url, urllib.parse.urlencode(fields).encode(), {"Accept": "application/json"} | cookie | headers
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_menu_of_every_page_leads_to_all_circuits(page):
    page.open("/tasks")
    menu = page.all(".app-nav:not(.app-nav-secondary) .nav-link")
    assert [entry.text for entry in menu] == ["Workers", "Tasks", "Broker", "Circuits"]
    menu[-1].click()
    wait_for(lambda: page.text("h1") == "Circuits")
    assert page.one(".app-nav [aria-current=page]").text == "Circuits"
    rows = page.all(".circuits-table tbody tr")
    assert [row.get_attribute("data-service") for row in rows] == list(CIRCUIT_BREAKERS)
    page.one("[data-service=finnhub] a").click()
    wait_for(lambda: page.text("h1") == "finnhub")


def test_a_circuit_that_opens_shows_without_reloading_and_disturbs_nobody(page, system):
    page.open("/circuits/finnhub")
    wait_for(lambda: page.text("#circuits-fresh") == "Live")
    page.js("window.notReloaded = true")
    page.one("#circuit-act input[value=open]").click()
    page.one("#circuit-reason").send_keys("half a reas")
    first = system.break_open("5xx")
    wait_for(lambda: "failures" in page.text(".circuit-headline"), 15, "the page tells it")
    assert "open" in page.text(".circuit-headline .circuit-state")
    assert page.one("#circuits-news").get_attribute("textContent") == "finnhub is now open, failures"
    assert page.one("#circuits-news").get_attribute("aria-live") == "polite"
    # A task is selected, and others come and go around it.
    wait_for(lambda: page.all(f"input[value='{first.id}']"), 10, "the parked task is listed")
    box = page.one(f"input[value='{first.id}']")
    box.click()
    more = [system.fetch(f"S{number}") for number in range(3)]
    wait_for(lambda: len(page.all(".circuit-parked tbody tr")) == 4, 15, "the others are listed")
    assert box.is_selected()
    assert page.focused() == box
    assert page.one("#circuit-reason").get_attribute("value") == "half a reas"
    assert page.one("#circuit-act input[value=open]").is_selected()
    page.one("#circuit-reason").send_keys("on")
    wait_for(lambda: page.js("return document.querySelectorAll('.strip-open').length") >= 2, 10)
    assert page.js("return window.notReloaded")
    page.open("/circuits")
    row = page.one("[data-service=finnhub]")
    assert row.find_element(By.CSS_SELECTOR, "[data-label=Parked]").text.startswith("4")
    link = row.find_element(By.CSS_SELECTOR, "a")
    page.js("arguments[0].focus()", link)
    system.simulator.set_mode("finnhub", "ok")
    get_circuit_breaker("finnhub").reset()
    wait_for(lambda: "closed" in page.text("[data-service=finnhub] .circuit-state"), 15, "and it closes")
    assert page.focused() == link
    wait_for(lambda: {result.state for result in (first, *more)} == {"SUCCESS"}, 20)


def test_it_tells_how_its_last_minutes_went(page, system):
    breaker = get_circuit_breaker("finnhub")
    breaker.read()  # the first look begins the count
    for _ in range(3):
        system.fetch("AAPL").get(10)
    page.open("/circuits/finnhub")
    told = page.one(".circuit-bars").get_attribute("aria-label")
    assert told == "Calls in the last hour: 3 succeeded"
    assert page.one(".circuit-bars .bar-succeeded").size["height"] > 10
    assert page.one(".circuit-strip").get_attribute("aria-label") == "Last hour: closed 1 h"


def test_each_control_acts_for_the_whole_fleet_in_the_users_name(page, system):
    breaker = get_circuit_breaker("finnhub")
    page.open("/circuits/finnhub")
    assert page.order("open", "3600", "they are moving") == "finnhub is forced open now."
    circuit = breaker.read()
    assert (circuit.state.value, circuit.actor, circuit.note) == ("forced_open", "ann", "they are moving")
    assert 3590 < (circuit.forced_until - circuit.read_at).total_seconds() <= 3600
    wait_for(lambda: "by ann" in page.text("[data-key='fact-Operator'] dd"), 10, "the page tells who")
    waiting = [system.fetch(f"S{number}") for number in range(4)]
    wait_for(lambda: breaker.read().parked == 4, 10)
    assert "is forced open" in page.order("release", "", "now")

    assert page.order("disable", "300", "false alarm") == "finnhub is disabled now."
    assert (breaker.read().state.value, breaker.read().note) == ("disabled", "false alarm")
    wait_for(lambda: {result.state for result in waiting} == {"SUCCESS"}, 20)

    assert page.order("close", "", "it is well") == "finnhub is closed now."
    assert breaker.read().state.value == "closed"

    system.break_open("5xx")
    assert page.order("reset", "", "mended") == "finnhub is closed now."
    change = breaker.store.history(["finnhub"], 5)["finnhub"].transitions[0]
    assert (change.after.value, change.actor, change.note) == ("closed", "ann", "mended")

    system.break_open("5xx")  # it was not
    system.simulator.set_mode("finnhub", "ok")
    assert "may go" in page.order("release", "", "now it is")
    changes = breaker.store.history(["finnhub"], 5)["finnhub"].transitions
    assert [change.actor for change in changes if change.after.value == "half_open"] == ["ann"]
    log = (system.folder / "flower.log").read_text("utf-8")
    assert "'ann': open of finnhub, reason 'they are moving': finnhub is forced open now." in log


def test_parked_tasks_are_dropped_only_when_that_is_confirmed(page, system):
    breaker = get_circuit_breaker("finnhub")
    breaker.force_open(600)
    one, two, three = (system.fetch(f"S{number}") for number in range(3))
    wait_for(lambda: breaker.read().parked == 3, 10)
    page.open("/circuits/finnhub")
    page.one(f"input[value='{one.id}']").click()
    page.one("#circuit-drop-reason").send_keys("delisted")
    selected, everything = page.all("#circuit-drop button")
    selected.click()
    wait_for(page.alert).dismiss()
    assert breaker.read().parked == 3
    selected.click()
    wait_for(page.alert).accept()
    wait_for(lambda: page.text("#circuit-drop output").startswith("1 parked task"), 10)
    assert one.state == "REVOKED"
    assert "dropped by ann: delisted" in str(one.result)
    assert breaker.read().parked == 2
    wait_for(lambda: not page.all(f"input[value='{one.id}']"), 10, "it is listed no more")
    selected.click()
    wait_for(page.alert).accept()
    wait_for(lambda: "Select the tasks" in page.text("#circuit-drop output"), 10)
    everything.click()
    wait_for(page.alert).accept()
    wait_for(lambda: page.text("#circuit-drop output").startswith("2 parked tasks"), 10)
    assert (two.state, three.state, breaker.read().parked) == ("REVOKED", "REVOKED", 0)


def test_nothing_from_a_user_or_a_provider_becomes_markup(page, system):
    attack = "</code><img src=x onerror='window.attacked=1'><script>window.attacked=1</script>\"'&amp;"
    breaker = get_circuit_breaker("finnhub")
    breaker.force_open(600, attack, attack)
    parked = system.fetch("AAPL", task_id=attack, argsrepr=attack)
    wait_for(lambda: breaker.read().parked == 1, 10)
    for path in ("/circuits", "/circuits/finnhub"):
        page.open(path)
        page.js("window.seen = document.querySelector('#circuits-live')")
        page.order("open", "300", attack) if path == "/circuits/finnhub" else None
        wait_for(lambda: page.text("#circuits-fresh") == "Live")
        assert page.js("return window.attacked") is None
        assert page.all("#circuits-live script, #circuits-live img") == []
    assert attack in page.text("[data-key='fact-Operator'] dd")
    assert "<img src=x" in page.text(".circuit-args")
    assert page.one("#circuits-live input").get_attribute("value") == attack
    breaker.reset()
    parked.revoke()


def test_it_can_be_read_on_a_phone_and_stays_a_table_for_a_screen_reader(page, system):
    breaker = get_circuit_breaker("finnhub")
    breaker.force_open(600, "a reason that is long " + "w" * 60, "somebody.with.a.long.name@example.com")
    parked = system.fetch("AAPL", argsrepr="('quote', '" + "W" * 80 + "')")
    wait_for(lambda: breaker.read().parked == 1, 10)
    page.size(PHONE, 740)
    for path in ("/circuits", "/circuits/finnhub"):
        page.open(path)
        page.js("return document.documentElement.scrollWidth")
        assert page.js("return document.documentElement.scrollWidth") == PHONE
        tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        roles = [node["role"]["value"] for node in tree if not node.get("ignored")]
        assert {"table", "row", "columnheader", "rowheader", "cell"} <= set(roles)
    parked.revoke()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_states_can_be_told_apart_without_colour_and_read_against_their_ground(page, theme):
    page.theme(theme)
    acts = {"finnhub": "force_open", "polygon": "disable"}
    for service, act in acts.items():
        getattr(get_circuit_breaker(service), act)(60)
    broken = get_circuit_breaker("fred")
    while permit := broken.acquire():
        broken.report(permit, "failure")
    page.open("/circuits")
    wait_for(lambda: page.text("[data-service=fred] .circuit-state") == "open", 10, "the page tells it")
    shown = {row.get_attribute("data-service"): row for row in page.all(".circuits-table tbody tr")}
    words = {}
    for service in (*acts, "fred", "tiingo"):
        state = shown[service].find_element(By.CSS_SELECTOR, ".circuit-state")
        shape = state.find_element(By.CSS_SELECTOR, "use").get_attribute("href")
        words[service] = (state.text, shape)
        assert page.js(CONTRAST, state) >= 4.5, (theme, service)
    assert [word for word, _ in words.values()] == ["forced open", "disabled", "open", "closed"]
    assert len({shape for _, shape in words.values()}) == 4
    for selector in (".circuit-more", ".circuits-legend", ".metric-label", "#circuits-pause"):
        assert page.js(CONTRAST, page.one(selector)) >= 4.5, (theme, selector)
    link = shown["tiingo"].find_element(By.CSS_SELECTOR, "a")
    page.one("#circuits-pause").send_keys(Keys.TAB)
    page.js("arguments[0].focus()", link)
    assert page.js("return getComputedStyle(arguments[0]).outlineStyle", link) == "solid"


# Of a text and the first ground behind it that is not clear, drawn as the browser draws them.
CONTRAST = """
function drawn(colour) {
  const pen = document.createElement('canvas').getContext('2d');
  pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
  return pen.getImageData(0, 0, 1, 1).data;
}
function light(pixel) {
  const [r, g, b] = Array.from(pixel).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
let ground = arguments[0];
while (ground.parentElement && drawn(getComputedStyle(ground).backgroundColor)[3] < 255) {
  ground = ground.parentElement;
}
const colours = [getComputedStyle(arguments[0]).color, getComputedStyle(ground).backgroundColor];
const [a, b] = colours.map(drawn).map(light);
return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
"""


def test_it_can_be_paused(page):
    breaker = get_circuit_breaker("finnhub")
    row = "[data-service=finnhub] .circuit-state"
    page.open("/circuits")
    wait_for(lambda: "closed" in page.text(row), 10, "what was before is over")
    first = page.driver.current_window_handle
    pause = page.one("#circuits-pause")
    pause.send_keys(Keys.ENTER)
    assert (pause.get_attribute("aria-pressed"), page.text("#circuits-fresh")) == ("true", "Paused")
    page.driver.switch_to.new_window("window")
    page.open("/circuits")
    for act, word in ((breaker.force_open, "forced open"), (breaker.disable, "disabled")):
        act(60)  # twice: a period at least has passed when it shows in the other window again
        wait_for(lambda word=word: word in page.text(row), 10, word)
    page.driver.close()
    page.driver.switch_to.window(first)
    assert page.js("return document.hidden") is False
    assert "closed" in page.text(row)
    page.one("#circuits-pause").send_keys(Keys.ENTER)
    wait_for(lambda: "disabled" in page.text(row), 10)


def test_another_sites_page_cannot_act_in_the_users_name(page, flower):
    attack = f"""<form method=post action="{flower}/circuits/finnhub">
        <input name=act value=open><input name=reason value=attack></form>
        <script>document.forms[0].submit()</script>"""

    class Attacker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(attack.encode())

        def log_message(self, *_: Any) -> None:
            """Nothing is of interest."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Attacker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.driver.get(f"http://localhost:{server.server_port}/")
        wait_for(lambda: page.driver.current_url.startswith(flower), 10, "the form is sent")
        wait_for(lambda: "Cross-site request forbidden" in page.text("body"), 10, "and refused")
        server.shutdown()
    assert get_circuit_breaker("finnhub").get_state()["state"] == "closed"


def test_controls_need_the_login_the_token_and_this_site(system, flower):
    system.calm()
    url, order = f"{flower}/circuits/finnhub", {"act": "open", "seconds": "60", "reason": "x"}
    assert [get(f"{flower}{path}")[0] for path in ("/circuits", "/circuits/finnhub")] == [401, 401]
    assert post(url, order)[0] == 401
    refused = {
        "no token": post(url, order, token=False, Authorization=LOGIN),
        "another site": post(url, order, Authorization=LOGIN, **{"Sec-Fetch-Site": "cross-site"}),
        "a neighbour": post(url, order, Authorization=LOGIN, **{"Sec-Fetch-Site": "same-site"}),
        "another origin": post(url, order, Authorization=LOGIN, Origin="http://evil.example"),
    }
    assert {why: status for why, (status, _) in refused.items()} == dict.fromkeys(refused, 403)
    assert post(f"{flower}/circuits/nobody", order, Authorization=LOGIN)[0] == 404
    wrong = {
        "no act": {"act": "explode"},
        "no number": order | {"seconds": "soon"},
        "no time": order | {"seconds": "-1"},
        "too long": order | {"reason": "w" * 301},
        "drop nothing": {"act": "drop"},
    }
    for why, form in wrong.items():
        status, body = post(url, form, Authorization=LOGIN)
        assert (status, "error" in body) == (400, True), why
    assert get_circuit_breaker("finnhub").get_state()["state"] == "closed"
    assert post(url, order, Authorization=LOGIN)[0] == 200
    assert get_circuit_breaker("finnhub").get_state()["actor"] == "ann"
    get_circuit_breaker("finnhub").reset()


def test_a_read_only_flower_shows_and_does_nothing(system):
    system.calm()
    flower = start_flower(
        system, "read-only", "--basic-auth=ann:pass", "--read_only=true", CIRCUITS_WITHOUT_LOGIN="read"
    )
    status, body = get(f"{flower}/circuits/finnhub", Authorization=LOGIN)
    assert (status, "This Flower is read-only." in body, "<form" in body) == (200, True, False)
    status, body = post(f"{flower}/circuits/finnhub", {"act": "open"}, Authorization=LOGIN)
    assert (status, "read-only" in body) == (403, True)
    assert get_circuit_breaker("finnhub").get_state()["state"] == "closed"
    # The JSON, and nothing else, is for everybody: it is configured so.
    assert get(f"{flower}/circuit-breakers")[0] == 200
    assert get(f"{flower}/circuit-breakers/finnhub")[0] == 200
    assert get(f"{flower}/circuits")[0] == 401


def test_without_a_login_only_this_machines_user_may_act_and_only_if_configured(system):
    system.calm()
    flower = start_flower(system, "no-login", "--url-prefix=ops", CIRCUITS_WITHOUT_LOGIN="control")
    url, order = f"{flower}/circuits/finnhub", {"act": "open", "seconds": "60"}
    status, body = get(url)
    assert (status, 'href="/ops/circuits/-/static/circuits.css"' in body) == (200, True)
    assert get(f"{flower}/circuits/-/static/circuits.css")[0] == 200
    status, body = post(url, order, Host="flower.example")
    assert (status, "CIRCUITS_WITHOUT_LOGIN" in body) == (403, True)
    assert post(url, order, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert post(url, order, token=False)[0] == 403
    assert get_circuit_breaker("finnhub").get_state()["state"] == "closed"
    assert post(url, order)[0] == 200
    assert get_circuit_breaker("finnhub").get_state()["actor"] == "anonymous@127.0.0.1"
    get_circuit_breaker("finnhub").reset()
    strict = start_flower(system, "strict")
    status, body = post(f"{strict}/circuits/finnhub", order)
    assert (status, "Controls need a login" in body) == (403, True)
    assert "Controls need a login" in get(f"{strict}/circuits/finnhub")[1]
    assert get_circuit_breaker("finnhub").get_state()["state"] == "closed"
