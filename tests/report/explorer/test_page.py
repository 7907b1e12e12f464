"""The page in a browser without a network: every control changes what is shown, by pointer and by keyboard."""

import re
from pathlib import Path
from typing import Any

import pytest

from helpers.explorer import HOSTILE, Looked, shown
from vit_registers.report.explorer.build import Frame

SCENES = [scene.name for scene in shown()]


def drawn(page: Any) -> list[str]:
    """What the canvases, charts, pictures and rows of the scene show, as text that tells it from anything else."""
    page.wait_for_timeout(150)
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("#main canvas")].map((canvas) => canvas.toDataURL())
            .concat([...document.querySelectorAll("#main svg, #main tbody, #main .strip, #main .panel h2")]
            .map((part) => part.outerHTML))"""
    )
    return found


@pytest.mark.parametrize("name", ["", *SCENES])
def test_every_scene_opens_by_its_address_and_asks_for_nothing(looked: Looked, name: str) -> None:
    page = looked.open(f"#/{name}")
    title = f"Scene of {name}" if name else f"A study {HOSTILE}"
    assert page.inner_text("h1") == title
    assert HOSTILE in page.title()  # text, which no one ran
    if name:
        assert page.locator("nav [aria-current]").inner_text() == title


@pytest.mark.parametrize("name", SCENES)
def test_every_choice_and_slider_changes_what_is_shown_and_stands_in_the_address(looked: Looked, name: str) -> None:
    page = looked.open(f"#/{name}")
    controls = page.locator("#main select, #main input[type=range], #main input[type=checkbox]").count()
    assert controls
    for i in range(controls):
        page = looked.open(f"#/{name}")
        control = page.locator("#main select, #main input[type=range], #main input[type=checkbox]").nth(i)
        before, address = drawn(page), page.url
        if control.evaluate("each => each.tagName") == "SELECT":
            places = control.locator("option").count()
            control.select_option(index=(control.evaluate("each => each.selectedIndex") + 1) % places)
        elif control.get_attribute("type") == "checkbox":
            control.focus()
            page.keyboard.press("Space")
        else:
            control.focus()
            low = control.evaluate("each => each.value === each.min")
            page.keyboard.press("ArrowRight" if low else "ArrowLeft")
        assert drawn(page) != before
        assert page.url != address
        after = drawn(page)
        kept = page.url
        page.goto("about:blank")
        page = looked.open(kept.removeprefix(looked.url))
        assert drawn(page) == after  # the address alone leads to the same view


def test_a_click_on_a_patch_and_the_arrow_keys_ask_for_its_map(looked: Looked) -> None:
    page = looked.open("#/maps?quantity=attention")
    before = drawn(page)
    page.locator("canvas.asks").first.click(position={"x": 5, "y": 5})
    page.wait_for_function("location.hash.includes('patch+1%2C+1')")
    first = drawn(page)
    assert first != before
    page.locator("canvas.asks").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.hash.includes('patch+1%2C+2')")
    assert drawn(page) != first
    assert page.inner_text("#said") == "patch 1, 2"


def test_a_play_button_goes_through_the_blocks_until_it_is_stopped(looked: Looked) -> None:
    page = looked.open("#/maps")
    bar = page.locator("input[type=range]")
    start = bar.input_value()
    page.get_by_role("button", name="Play block").click()
    page.wait_for_function("value => document.querySelector('input[type=range]').value !== value", arg=start)
    page.get_by_role("button", name="Play block").click()
    stopped = bar.input_value()
    page.wait_for_timeout(1500)
    assert bar.input_value() == stopped


def test_the_numbers_of_a_map_are_those_that_were_put_in(looked: Looked) -> None:
    values = shown()[0].widget.models[0].conditions[0].quantities["norms"].values[0, -1]  # type: ignore[union-attr]
    page = looked.open("#/maps?a=as it is")
    said = page.locator(".panel p").filter(has_text="largest").first.inner_text()
    best = int(values.argmax())
    assert said == f"largest {float(f'{values.max():.3g}'):g} at patch {best // 5 + 1}, {best % 5 + 1}"


def test_claims_are_searched_filtered_opened_and_shown_bit_by_bit(looked: Looked) -> None:
    page = looked.open("#/listing")
    rows = page.locator("#main tbody tr")
    assert rows.count() == 100
    page.get_by_role("button", name="Show more").click()
    assert rows.count() == 200
    page.get_by_label("Verdict").select_option(label="contradicted")
    assert {text.split("\t")[-1] for text in rows.all_inner_texts()} == {"contradicted"}
    page.get_by_label("Search").fill("statement 13")
    assert all("statement 13" in text for text in rows.all_inner_texts())
    page.get_by_role("button", name="Details of c13", exact=True).click()
    assert "because 13" in page.inner_text("tr.detail")
    assert "open=c13" in page.url


def test_all_that_is_pressed_is_reached_by_keyboard(looked: Looked) -> None:
    for name in SCENES:
        page = looked.open(f"#/{name}")
        wanted = page.locator("main select, main input, main button:visible, main canvas.asks[tabindex]").count()
        reached = set()
        page.evaluate("document.activeElement.blur()")
        for _ in range(400):
            page.keyboard.press("Tab")
            place = page.evaluate(
                """() => { const all = [...document.querySelectorAll("main select, main input, main button, "
                    + "main canvas.asks[tabindex]")]; return all.indexOf(document.activeElement); }"""
            )
            if place >= 0:
                reached.add(place)
            if len(reached) >= wanted:
                break
        assert len(reached) >= wanted, name


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["", *SCENES])
def test_no_serious_fault_of_accessibility(looked: Looked, name: str, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    looked.page.emulate_media(color_scheme=theme)
    page = looked.open(f"#/{name}")
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in serious] == []


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Any, page_file: Path) -> None:
    looked = Looked(browser, page_file, viewport={"width": 375, "height": 700})
    for name in ["", *SCENES]:
        page = looked.open(f"#/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, name
    assert not page.locator("nav").is_visible()
    page.get_by_role("button", name="Scenes").click()
    page.locator("nav a").first.click()
    page.wait_for_selector(f"html[data-shown='{SCENES[0]}']", state="attached")
    page.close()


def test_the_theme_button_goes_from_auto_to_light_to_dark(looked: Looked) -> None:
    page = looked.open("#/chart")
    colours = []
    for _ in range(3):
        page.locator("#theme").click()
        colours.append((page.inner_text("#theme"), page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert [name for name, _ in colours] == ["Theme: light", "Theme: dark", "Theme: auto"]
    assert colours[0][1] != colours[1][1]


def test_labels_are_text_and_scripts_are_those_whose_checksums_the_policy_names() -> None:
    page = Frame(f"A study {HOSTILE}", "made").page(shown())
    assert HOSTILE not in page
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert re.findall(r"(?:src|href)\s*=\s*[\"']?https?:", page.split("<script>")[0]) == []
