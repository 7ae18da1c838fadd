import pytest

from squash_api.accounts.credentials import (
    MAX_BYTES,
    MAX_NAME,
    clean_credential,
    clean_new_name,
    clean_new_password,
    common_passwords,
)
from squash_api.errors import InvalidInputError


@pytest.mark.parametrize(
    "name",
    ["m", "é" * MAX_NAME, "Jo Mole", "jo+ci@lsst.org", "a:b", "土竜", "ада", "モールjp", "μάντης"],
)
def test_a_name_that_can_be_had_stays_as_it_is(name: str) -> None:
    assert clean_new_name(name) == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "empty"),
        ("é" * (MAX_NAME + 1), "longer than 128 characters"),
        (" mole", "space"),
        ("mole ", "space"),
        ("\u00a0mole", "space"),
        ("mo\nle", "printed"),
        ("mo\u200ble", "printed"),
        ("mo\0le", "NUL"),
        ("mo\ud800le", "encoded"),
        ("mo/le", "URL"),
        ("..", "URL"),
        ("mole\ufe0f", "printed"),
        ("mole\u3164", "printed"),
        ("\u0430da", "mixes letters of Cyrillic and Latin"),
        ("m\u03bfle", "mixes letters of Greek and Latin"),
        ("x" * 100_000, "longer than 1024 bytes"),
    ],
)
def test_a_name_that_cannot_be_had_says_why(name: str, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=f"user name .*{problem}") as caught:
        clean_new_name(name)
    assert [detail.loc for detail in caught.value.detail] == [("body", "username")]
    assert caught.value.status_code == 422


PASSWORDS = [
    "desert rose",
    "xy" * (MAX_BYTES // 2),
    " blank blank ",
    "\t\n\x01!ü€1234",
    "ыыыыыыыы!",
]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_that_can_be_had_stays_as_it_is(password: str) -> None:
    assert clean_new_password(password, name="mole") == password


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("", "shorter than 8"),
        ("dune! 7", "shorter than 8"),
        ("123456", "shorter than 8"),
        ("      ", "shorter than 8"),
        (" " * 8, "blank"),
        ("\u00a0\t " * 8, "blank"),
        ("password", "common"),
        ("Passw0rd", "common"),
        ("QWERTYUIOP", "common"),
        ("\uff50\uff41\uff53\uff53word1", "common"),
        ("letmein1", "common"),
        ("iloveyou ", "common"),
        ("12345678", "row"),
        ("87654321", "row"),
        ("zzzzzzzzzzzz", "row"),
        ("abcdefghijkl", "row"),
        ("Grace.Hopper", "user name"),
        ("grace.hopper", "user name"),
        ("desert\0rose", "NUL"),
        ("desert rose\ud800", "encoded"),
        (f"desert rose{chr(0xFFFD)}", "encoded"),
        ("xy" * MAX_BYTES, "longer than 1024 bytes"),
        ("\ufdfa" * 300, "longer than 1024 bytes"),
    ],
)
def test_a_password_that_cannot_be_had_says_why(password: str, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=f"password .*{problem}") as caught:
        clean_new_password(password, name="Grace.Hopper")
    assert [detail.loc for detail in caught.value.detail] == [("body", "password")]
    assert (
        len(password) < 8 or password in {" " * 8, "password"} or password not in str(caught.value)
    )


def test_the_common_passwords_are_thousands_that_would_be_long_enough() -> None:
    assert len(common_passwords()) > 10_000
    assert all(len(password) >= 8 for password in common_passwords())


def test_short_passwords_may_still_be_checked() -> None:
    assert clean_credential("x", field="password") == "x"


def test_letters_are_composed() -> None:
    assert clean_credential("de\u0301sert", field="password") == "d\u00e9sert"
