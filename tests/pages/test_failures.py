import httpx


def test_people_get_a_page_where_programs_get_json(shared_browser: httpx.Client) -> None:
    page = shared_browser.get("/job/7")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no job 7." in page.text
    reply = shared_browser.get("/job/7", headers={"Accept": "*/*"})
    assert reply.json()["message"] == "There is no job 7."


def test_what_was_asked_for_is_shown_as_text(shared_browser: httpx.Client) -> None:
    page = shared_browser.get("/<script>alert(1)</script>")
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text


def test_a_failed_post_is_answered_with_json_whatever_is_preferred(
    shared_browser: httpx.Client,
) -> None:
    assert shared_browser.post("/job", json={}).json()["code"] == "unauthorized"


def test_caches_are_told_that_accept_matters(shared_browser: httpx.Client) -> None:
    for accept in ("text/html", "*/*"):
        assert shared_browser.get("/", headers={"Accept": accept}).headers["vary"] == "Accept"
