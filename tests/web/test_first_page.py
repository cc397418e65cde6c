"""The first page as a person uses it: a real browser, real processes, nothing answered by the test itself."""

import re
import signal

from playwright.async_api import Locator, Page, expect

SLOW = {"steps": 200, "options": {"step_s": 0.1}}


def card(page: Page, prompt: str) -> Locator:
    return page.locator(".card").filter(has_text=prompt)


def note(page: Page, prompt: str) -> Locator:
    return page.locator(".note").filter(has_text=prompt)


def picture(page: Page, prompt: str) -> Locator:
    return page.locator("#gallery").get_by_alt_text(prompt, exact=True)


async def expect_drawn(image: Locator, *, timeout_s: float = 20) -> None:
    await expect(image.first).to_have_class(re.compile("shown"), timeout=timeout_s * 1000)
    assert await image.first.evaluate("image => image.naturalWidth") > 0


async def choose_scripted(page: Page, **fields: str) -> None:
    """Take the scripted model and fill `fields` under "More"."""
    await page.get_by_label("Model").select_option("scripted")
    await page.get_by_role("button", name="More", exact=True).click()
    for label, value in fields.items():
        await page.get_by_label(label.replace("_", " "), exact=True).fill(value)


async def test_a_prompt_becomes_a_picture_in_the_gallery_without_reloading(studio, visitor):
    page = await visitor.open(studio)
    await page.evaluate("window.isTheSamePage = true")
    await page.get_by_label("Prompt").fill("a red circle on a blue background")
    await page.get_by_role("button", name="Draw", exact=True).click()
    image = picture(page, "a red circle on a blue background")
    await expect_drawn(image, timeout_s=60)  # the worker loads its model first
    assert await image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [128, 128]
    assert await page.evaluate("window.isTheSamePage")


async def test_an_example_of_the_model_fills_the_prompt(studio, visitor):
    page = await visitor.open(studio)
    await page.get_by_role("group", name="Examples").get_by_role("button", name="mountains at night").click()
    await expect(page.get_by_label("Prompt")).to_have_value("mountains at night")
    await expect(page.get_by_label("Prompt")).to_be_focused()


async def test_several_pictures_of_another_shape_are_drawn_as_asked(studio, visitor):
    page = await visitor.open(studio)
    await page.get_by_label("Model").select_option("scripted")
    await page.get_by_role("combobox", name="Pictures").select_option("3")
    await page.get_by_label("Wide").check(force=True)
    await page.get_by_label("Seed", exact=True).fill("7")
    await page.get_by_label("Prompt").fill("three wide ones")
    await page.get_by_role("button", name="Draw", exact=True).click()
    await expect(picture(page, "three wide ones")).to_have_count(3)
    await expect_drawn(picture(page, "three wide ones"))
    await picture(page, "three wide ones").first.click()
    facts = page.locator("#viewer-facts")
    await expect(facts).to_contain_text("88 × 48")
    await expect(facts).to_contain_text(re.compile(r"Seed7\D"))


async def test_progress_is_shown_and_cancel_stops_the_work(studio, visitor):
    page = await visitor.open(studio)
    await choose_scripted(page, step_s="0.1", Steps="200")
    await page.get_by_label("Prompt").fill("a long one to stop")
    await page.get_by_role("button", name="Draw", exact=True).click()
    running = card(page, "a long one to stop")
    bar = running.get_by_role("progressbar")
    await expect(running).to_contain_text(re.compile(r"Step \d+ of 200, about"))
    first = await bar.evaluate("bar => bar.value")
    await page.wait_for_function("value => document.querySelector('.card progress').value > value + 0.01", arg=first)
    await running.get_by_role("button", name="Cancel").click()
    await expect(running).to_have_count(0)
    await expect(note(page, "a long one to stop")).to_contain_text("Cancelled")
    listed = (await studio.http.get("/api/generate", params={"q": "a long one to stop"})).json()["items"]
    assert [item["status"] for item in listed] == ["cancelled"]
    steps = len(studio.notes(listed[0]["id"]))
    await page.wait_for_timeout(400)
    assert len(studio.notes(listed[0]["id"])) == steps < 200


async def test_what_a_picture_looks_like_so_far_is_shown_while_it_is_drawn(studio, visitor):
    page = await visitor.open(studio)
    orange = {"options": {"step_s": 0.1, "previews": 0x0080FF}}
    drawn = await studio.generate("slowly coming to light", steps=200, **orange)
    shown = card(page, "slowly coming to light").locator(".plate img")
    await expect(shown).to_be_visible()
    middle = """image => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
      canvas.getContext("2d").drawImage(image, 0, 0, 1, 1);
      return [...canvas.getContext("2d").getImageData(0, 0, 1, 1).data];
    }"""
    red, green, blue, _ = await shown.evaluate(middle)
    assert (red > 200, 100 < green < 160, blue < 60) == (True, True, True)
    await page.wait_for_timeout(500)  # progress without a new one comes in between
    await expect(shown).to_be_visible()
    await studio.http.post(f"/api/generate/{drawn['id']}/cancel")
    plain = await studio.generate("coming to light at once", **SLOW)
    await expect(card(page, "coming to light at once")).to_contain_text("Step")
    await expect(card(page, "coming to light at once").locator(".plate img")).to_be_hidden()
    await studio.http.post(f"/api/generate/{plain['id']}/cancel")


async def test_what_was_made_from_a_picture_is_made_from_it_again(studio, visitor):
    page = await visitor.open(studio)
    source = (await studio.wait((await studio.generate("a source", seed=9, width=96))["id"]))["media"][0]["id"]
    words = {"prompt": "a source in other words", "model": "scripted", "strength": 0.3, "seed": 4}
    for path, body in (
        ("edit", {**words, "image": source}),
        ("edit", {**words, "image": source, "prompt": "", "background": "a source behind the words"}),
        ("upscale", {"image": source, "scale": 2, "model": "scripted"}),
    ):
        asked = await studio.http.post(f"/api/generate/{path}", json=body)
        made = await studio.wait(asked.json()["id"])
        await page.locator(f'[data-key="{made["media"][0]["id"]}"] button').click()
        await page.get_by_role("dialog").get_by_role("button", name="Run again").click()
        await expect(page.get_by_role("dialog")).to_be_hidden()
        newest = (await studio.http.get("/api/generate?limit=1")).json()["items"][0]
        assert newest["id"] != made["id"]
        assert (await studio.wait(newest["id"]))["status"] == "completed"
        for name in ("task", "image", "width", "height", "strength", "scale", "remover", "drawn"):
            assert newest["parameters"].get(name) == made["parameters"].get(name), (path, name)


async def test_a_reload_keeps_what_runs_what_is_done_and_the_draft(studio, visitor):
    page = await visitor.open(studio)
    await studio.wait((await studio.generate("done before the reload"))["id"])
    running = await studio.generate("still running at the reload", **SLOW)
    await expect(card(page, "still running at the reload")).to_contain_text("Step")
    await page.get_by_label("Prompt").fill("half a thought")
    await page.reload()
    await expect(page.get_by_label("Prompt")).to_have_value("half a thought")
    await expect(card(page, "still running at the reload")).to_contain_text(re.compile(r"Step \d+ of 200"))
    await expect_drawn(picture(page, "done before the reload"))
    await studio.http.post(f"/api/generate/{running['id']}/cancel")
    await expect(note(page, "still running at the reload")).to_contain_text("Cancelled")


async def test_two_tabs_see_the_same(studio, visitor):
    first, second = await visitor.open(studio), await visitor.open(studio)
    await first.get_by_label("Model").select_option("scripted")
    await first.get_by_label("Prompt").fill("seen in two tabs")
    await first.get_by_role("button", name="Draw", exact=True).click()
    for page in (first, second):
        await expect_drawn(picture(page, "seen in two tabs"))
    await picture(second, "seen in two tabs").click()
    await second.get_by_role("button", name="Delete", exact=True).click()
    await second.get_by_role("button", name="Really delete?").click()
    for page in (first, second):
        await expect(picture(page, "seen in two tabs")).to_have_count(0)


async def test_what_is_deleted_elsewhere_leaves_the_page_at_once(studio, new_visitor):
    page = await (await new_visitor()).open(studio)
    done = await studio.wait((await studio.generate("deleted from a terminal"))["id"])
    running = await studio.generate("deleted while it runs", **SLOW)
    await expect_drawn(picture(page, "deleted from a terminal"))
    await expect(card(page, "deleted while it runs")).to_contain_text("Step")
    for generation in (done, running):
        await studio.http.delete(f"/api/generate/{generation['id']}")
    await expect(picture(page, "deleted from a terminal")).to_have_count(0, timeout=3000)
    await expect(card(page, "deleted while it runs")).to_have_count(0, timeout=3000)


async def test_a_reload_still_shows_that_something_is_being_cancelled(studio, visitor):
    page = await visitor.open(studio)
    await studio.generate("slow to stop", **SLOW)
    await expect(card(page, "slow to stop")).to_contain_text("Step")
    studio.workers[0].send_signal(signal.SIGSTOP)
    try:
        await card(page, "slow to stop").get_by_role("button", name="Cancel").click()
        await expect(card(page, "slow to stop")).to_contain_text("Cancelling…")
        await page.reload()
        await expect(card(page, "slow to stop")).to_contain_text("Cancelling…")
        await expect(card(page, "slow to stop").get_by_role("button", name="Cancel")).to_be_disabled()
    finally:
        studio.workers[0].send_signal(signal.SIGCONT)
    await expect(note(page, "slow to stop")).to_contain_text("Cancelled")


async def test_an_error_of_the_api_appears_at_its_field_and_goes_when_mended(studio, visitor):
    visitor.expect_complaint("status of 422")
    page = await visitor.open(studio)
    await page.get_by_label("Model").select_option("scripted")
    await page.get_by_label("Prompt").fill("of a size that does not exist")
    await page.get_by_role("button", name="More", exact=True).click()
    await page.get_by_label("Width").fill("99")
    await page.get_by_label("Guidance").fill("50")
    await page.get_by_role("button", name="Less", exact=True).click()
    await page.get_by_role("button", name="Draw", exact=True).click()
    width = page.get_by_label("Width")
    await expect(width).to_be_focused()
    await expect(width).to_have_attribute("aria-invalid", "true")
    await expect(width).to_have_accessible_description(re.compile("send 96 instead of 99"))
    await expect(page.get_by_label("Guidance")).to_have_accessible_description(re.compile("at most 20"))
    await page.get_by_label("Guidance").fill("5")
    await width.fill("96")
    await page.get_by_role("button", name="Draw", exact=True).click()
    await expect_drawn(picture(page, "of a size that does not exist"))
    await expect(page.locator(".error:visible")).to_have_count(0)


async def test_an_empty_prompt_is_asked_for(studio, visitor):
    page = await visitor.open(studio)
    await page.get_by_role("button", name="Draw", exact=True).click()
    await expect(page.get_by_label("Prompt")).to_have_accessible_description("Say what you would like to see.")


async def test_a_prompt_with_html_is_shown_as_text(studio, visitor):
    page = await visitor.open(studio)
    prompt = '<img src=x onerror="window.isHurt = true"><b>bold</b>'
    waiting = await studio.generate(prompt, **SLOW)
    await expect(card(page, prompt)).to_be_visible()
    await studio.http.post(f"/api/generate/{waiting['id']}/cancel")
    await expect(note(page, prompt)).to_be_visible()
    await studio.generate(prompt)
    await picture(page, prompt).click()
    await expect(page.get_by_role("dialog")).to_contain_text(prompt)
    assert await page.evaluate("window.isHurt") is None
    assert await page.locator("main b, dialog b").count() == 0


async def test_everything_can_be_done_with_the_keyboard_alone(studio, visitor):
    page = await visitor.open(studio)
    await page.get_by_label("Model").select_option("scripted")
    await page.reload()
    await expect(page.get_by_label("Model")).to_have_value("scripted")
    await expect(page.get_by_label("Prompt")).to_be_focused()
    await page.keyboard.type("drawn without a mouse")
    await page.keyboard.press("Control+Enter")
    await expect_drawn(picture(page, "drawn without a mouse"))
    is_reached = "() => document.activeElement.firstElementChild?.alt === 'drawn without a mouse'"
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate(is_reached):
            break
    assert await page.evaluate(is_reached)
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert await page.evaluate(is_reached)


async def test_arrow_keys_turn_the_pages_of_the_dialog(studio, visitor):
    page = await visitor.open(studio)
    for prompt in ("the older of two", "the newer of two"):
        await studio.wait((await studio.generate(prompt))["id"])
    await picture(page, "the newer of two").click()
    dialog = page.get_by_role("dialog")
    await page.keyboard.press("ArrowRight")
    await expect(dialog).to_contain_text("the older of two")
    await page.keyboard.press("ArrowLeft")
    await expect(dialog).to_contain_text("the newer of two")


async def test_a_picture_can_be_deleted_downloaded_repeated_and_its_settings_taken(studio, visitor):
    page = await visitor.open(studio)
    made = await studio.wait((await studio.generate("something to keep", seed=42, width=96, steps=3))["id"])
    await picture(page, "something to keep").click()
    dialog = page.get_by_role("dialog")
    async with page.expect_download() as downloading:
        await dialog.get_by_role("link", name="Download").click()
    original = (await studio.http.get(made["output_paths"][0])).content
    assert (await (await downloading.value).path()).read_bytes() == original

    await dialog.get_by_role("button", name="Use these settings").click()
    await expect(page.get_by_label("Prompt")).to_have_value("something to keep")
    await expect(page.get_by_label("Seed", exact=True)).to_have_value("42")
    await expect(page.get_by_label("Keep the seed")).to_have_attribute("aria-pressed", "true")
    assert await page.locator("#size").text_content() == "96 × 64"

    await picture(page, "something to keep").click()
    await dialog.get_by_role("button", name="Run again").click()
    await expect(picture(page, "something to keep")).to_have_count(2)
    listed = (await studio.http.get("/api/generate", params={"q": "something to keep"})).json()["items"]
    assert listed[0]["parameters"]["width"] == 96
    assert listed[0]["parameters"]["seed"] != 42

    await picture(page, "something to keep").last.click()
    await dialog.get_by_role("button", name="Delete", exact=True).click()
    assert (await studio.http.get(f"/api/generate/{made['id']}")).status_code == 200
    await dialog.get_by_role("button", name="Really delete?").click()
    await expect(dialog).to_be_hidden()
    await expect(picture(page, "something to keep")).to_have_count(1)
    assert (await studio.http.get(f"/api/generate/{made['id']}")).status_code == 404


async def test_a_failure_says_why_and_can_be_tried_again(studio, visitor):
    page = await visitor.open(studio)
    await studio.generate("bound to fail", options={"fail_code": "out_of_paint"})
    await expect(note(page, "bound to fail")).to_contain_text("asked to fail")
    await note(page, "bound to fail").get_by_role("button", name="Try again").click()
    await expect(note(page, "bound to fail")).to_have_count(2)
    await note(page, "bound to fail").first.get_by_role("button", name="Remove").click()
    await expect(note(page, "bound to fail")).to_have_count(1)


async def test_without_a_worker_the_page_says_so_and_shows_the_place_in_line(new_studio, visitor):
    studio = await new_studio(workers=0)
    page = await visitor.open(studio)
    await expect(page.locator("#notice")).to_contain_text("No worker is running")
    for prompt in ("first in line", "second in line", "third in line"):
        await studio.generate(prompt)
    await expect(card(page, "first in line")).to_contain_text("Waiting for a worker, next in line")
    await expect(card(page, "third in line")).to_contain_text("number 3 in line")
    await card(page, "second in line").get_by_role("button", name="Cancel").click()
    await expect(card(page, "third in line")).to_contain_text("number 2 in line")
    studio.start_worker()
    await expect_drawn(picture(page, "third in line"))
    await expect(page.locator("#notice")).to_be_hidden()
    await expect(page.locator(".card")).to_have_count(0)


async def test_a_restart_of_the_api_is_survived_and_what_was_missed_is_shown(studio, visitor):
    visitor.expect_complaint("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET")
    page = await visitor.open(studio)
    during = await studio.generate("finished while the connection was down", steps=10, options={"step_s": 0.1})
    await expect(card(page, "finished while the connection was down")).to_contain_text("Step")
    studio.api.kill()
    studio.api.wait()
    try:
        await expect(page.locator("#notice")).to_contain_text("connection to the studio was lost")
        await page.get_by_label("Model").select_option("scripted")
        await page.get_by_label("Prompt").fill("asked for while nobody answered")
        await page.get_by_role("button", name="Draw", exact=True).click()
        await page.wait_for_timeout(900)
    finally:
        studio.start_api()
        await studio.wait_ready(workers=1)
    await expect_drawn(picture(page, "finished while the connection was down"))
    await expect_drawn(picture(page, "asked for while nobody answered"))
    await expect(page.locator("#notice")).to_be_hidden()
    assert (await studio.read(during["id"]))["attempt"] == 1
    listed = (await studio.http.get("/api/generate", params={"q": "asked for while nobody"})).json()["items"]
    assert len(listed) == 1


async def test_older_pictures_are_loaded_on_demand(studio, visitor):
    made = [await studio.generate(f"picture {number}") for number in range(60)]
    for generation in made:
        await studio.wait(generation["id"])
    page = await visitor.open(studio)
    await expect(page.locator(".tile")).to_have_count(48)
    await page.get_by_role("button", name="Load more").click()
    await expect(picture(page, "picture 0")).to_be_visible()
    shown = await page.locator(".tile img").evaluate_all("images => images.map(image => image.alt)")
    assert shown[:60] == [f"picture {number}" for number in reversed(range(60))]


async def test_no_width_scrolls_sideways(studio, visitor):
    endless = "supercalifragilistic" * 20
    await studio.wait((await studio.generate(endless))["id"])
    await studio.wait((await studio.generate(endless + "!", options={"fail_code": "x" * 60}))["id"])
    running = await studio.generate(endless + "?", **SLOW)
    page = await visitor.open(studio)
    await page.get_by_role("button", name="More", exact=True).click()
    overhang = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for width in (360, 800, 1600):
        await page.set_viewport_size({"width": width, "height": 740})
        await expect(card(page, endless + "?")).to_be_visible()
        assert await page.evaluate(overhang) == 0, width
        await picture(page, endless).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        assert await page.evaluate(overhang) == 0, width
        assert await page.evaluate("document.querySelector('dialog').scrollWidth") <= width
        await page.keyboard.press("Escape")
    await studio.http.post(f"/api/generate/{running['id']}/cancel")


async def test_a_late_answer_never_undoes_what_is_known_since(studio, visitor):
    page = await visitor.open(studio)
    outcome = await page.evaluate(
        """async () => {
          const { EMPTY, hear, merge, put, remove, reread } = await import("/static/shelf.js");
          const row = (id, status) => ({ id, status, model: "m", parameters: {} });
          const told = (id, type, data = {}) => ({ generation_id: id, type, data });
          const waiting = put(EMPTY, row("b", "queued"));
          const asOf = waiting.clock;
          const running = hear(waiting, told("b", "progress", { step: 3 }));
          const cancelled = hear(running, told("b", "cancelled"));
          const gone = hear(cancelled, told("b", "deleted"));
          const line = [1, 2, 3].map((position) => ({ ...row(`l${position}`, "queued"), position }));
          const places = (shelf) => [...shelf.items.values()].map(({ position }) => position).join();
          const inLine = line.reduce(put, EMPTY);
          const page = { items: [row("c", "completed")], next_cursor: null };
          const status = (shelf, id) => shelf.items.get(id)?.status ?? "none";
          return [
            status(merge(running, [row("b", "queued")], asOf), "b"),
            status(merge(running, [row("b", "completed")], asOf), "b"),
            status(hear(cancelled, told("b", "progress", { step: 4 })), "b"),
            status(merge(gone, [row("b", "completed")], asOf), "b"),
            status(reread(running, page, asOf), "b"),
            status(reread(running, page, running.clock), "b"),
            places(hear(inLine, told("l1", "started"))),
            places(remove(inLine, "l2")),
            places(hear(inLine, told("l1", "queued", { position: 1 }))),
          ];
        }"""
    )
    assert outcome == [
        *("processing", "completed", "cancelled", "none", "processing", "none"),
        *("1,1,2", "1,2", "1,2,3"),
    ]
