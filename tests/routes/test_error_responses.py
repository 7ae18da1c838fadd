import httpx
import pytest

from squash_api.routes.replies import ErrorBody, errors_of


def test_each_status_has_the_one_body() -> None:
    assert errors_of(404, 422) == {404: {"model": ErrorBody}, 422: {"model": ErrorBody}}


@pytest.mark.parametrize(
    ("path", "status"), [("/none", 404), ("/jobs?limit=x", 422), ("/users", 401)]
)
def test_real_failures_are_as_documented(
    shared_client: httpx.Client, path: str, status: int
) -> None:
    body = ErrorBody.model_validate(shared_client.get(path).json(), strict=True)
    assert body.status_code == status
