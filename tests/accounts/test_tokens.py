import base64
import hashlib
import json
import time
from itertools import pairwise
from typing import Any
from unittest.mock import ANY

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.accounts.tokens import (
    Claims,
    PasswordCredentials,
    Tokens,
    parse_authorization,
)
from squash_api.errors import UnauthorizedError
from tests.support.builders import SECRET
from tests.support.hashing import Clock


@pytest.fixture
def clock() -> Clock:
    # PyJWT has no clock but the real one.
    clock = Clock()
    clock.now = time.time()
    return clock


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens(SECRET, minutes=60, clock=clock)


def issue(tokens: Tokens) -> str:
    return tokens.issue(user_id=7, name="mole", role="user", epoch=3)


def forge(
    tokens: Tokens, *, secret: str = SECRET, typ: str = "squash+jwt", **changes: object
) -> str:
    """Sign the claims of a real token after a change; a claim that becomes None goes."""
    claims = jwt.decode(issue(tokens), options={"verify_signature": False}) | changes
    kept = {claim: value for claim, value in claims.items() if value is not None}
    return jwt.encode(kept, secret, "HS256", headers={"typ": typ})


def _changed(claim: str, value: object) -> dict[str, Any]:
    return {claim: value}


def refusal(tokens: Tokens, token: str) -> tuple[str, str]:
    with pytest.raises(UnauthorizedError) as caught:
        tokens.read(token)
    assert not caught.value.challenge
    return caught.value.error, caught.value.message


def basic(text: str, encoding: str = "utf-8") -> str:
    return "Basic " + base64.b64encode(text.encode(encoding)).decode()


def test_a_token_gives_back_what_was_put_in(tokens: Tokens, clock: Clock) -> None:
    assert tokens.read(issue(tokens)) == Claims(7, "mole", "user", 3, int(clock.now) + 3600, ANY)


def test_the_claims_are_those_of_the_contract(tokens: Tokens, clock: Clock) -> None:
    claims = jwt.decode(issue(tokens), options={"verify_signature": False})
    now = int(clock.now)
    assert len(claims.pop("jti")) == 32
    assert claims == {
        "iss": "squash",
        "aud": "squash",
        "sub": "7",
        "identity": 7,
        "name": "mole",
        "role": "user",
        "epoch": 3,
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
    }


def test_the_header_names_algorithm_and_type(tokens: Tokens) -> None:
    header = jwt.get_unverified_header(issue(tokens))
    assert len(header.pop("kid")) == 8
    assert header == {"alg": "HS256", "typ": "squash+jwt"}


OLD, NEW = "o" * 32, "n" * 32


def test_tokens_of_the_previous_secret_are_read(clock: Clock) -> None:
    token = issue(Tokens(OLD, minutes=60, clock=clock))
    assert Tokens(NEW, previous=OLD, minutes=60, clock=clock).read(token).user_id == 7


def test_new_tokens_are_signed_with_the_present_secret(clock: Clock) -> None:
    token = issue(Tokens(NEW, previous=OLD, minutes=60, clock=clock))
    assert Tokens(NEW, minutes=60, clock=clock).read(token).user_id == 7
    refusal(Tokens(OLD, minutes=60, clock=clock), token)


def test_once_the_previous_secret_is_removed_its_tokens_end(clock: Clock) -> None:
    token = issue(Tokens(OLD, minutes=60, clock=clock))
    assert refusal(Tokens(NEW, minutes=60, clock=clock), token) == (
        "Invalid token",
        "Signature verification failed",
    )


def test_each_process_reads_what_the_other_signs_while_the_secret_is_replaced(
    clock: Clock,
) -> None:
    stages = [(OLD, None), (OLD, NEW), (NEW, OLD), (NEW, None)]
    for before, after in pairwise(stages):
        for signer, reader in ((before, after), (after, before)):
            token = issue(Tokens(signer[0], previous=signer[1], minutes=60, clock=clock))
            reading = Tokens(reader[0], previous=reader[1], minutes=60, clock=clock)
            assert reading.read(token).user_id == 7


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_a_token_that_does_not_name_its_secret_is_tried_with_both(
    clock: Clock, secret: str
) -> None:
    # As those of 2.0.
    tokens = Tokens(NEW, previous=OLD, minutes=60, clock=clock)
    assert tokens.read(forge(tokens, secret=secret)).user_id == 7


@pytest.mark.parametrize("kid", ["12345678", "", 7, ["x"], {"a": 1}])
def test_a_token_of_another_secret_or_none_is_refused(tokens: Tokens, kid: object) -> None:
    claims = jwt.decode(issue(tokens), options={"verify_signature": False})
    header = base64.urlsafe_b64encode(
        json.dumps({"alg": "HS256", "typ": "squash+jwt", "kid": kid}).encode()
    )
    signed = jwt.encode(claims, SECRET, "HS256", headers={"typ": "squash+jwt"})
    token = ".".join([header.decode().rstrip("="), *signed.split(".")[1:]])
    assert refusal(tokens, token)[0] == "Invalid token"


def test_a_name_of_a_secret_tells_nothing_about_it(tokens: Tokens) -> None:
    kid = jwt.get_unverified_header(issue(tokens))["kid"]
    assert kid not in hashlib.sha256(SECRET.encode()).hexdigest()
    assert kid not in SECRET


def test_the_longest_name_fits_in_a_token(tokens: Tokens) -> None:
    name = "\U0001f98b" * 128
    token = tokens.issue(user_id=2**63 - 1, name=name, role="admin", epoch=2**31)
    assert tokens.read(token).name == name


def test_a_token_lives_until_its_end_and_the_leeway(tokens: Tokens, clock: Clock) -> None:
    token = issue(tokens)
    clock.now += 3_608
    assert tokens.read(token).user_id == 7


@pytest.mark.parametrize("reads_before", [0, 2])
def test_a_token_ends_whether_it_was_read_before_or_not(
    tokens: Tokens, clock: Clock, reads_before: int
) -> None:
    token = issue(tokens)
    for _ in range(reads_before):
        tokens.read(token)
    clock.now += 3_611
    assert refusal(tokens, token) == ("Invalid token", "Signature has expired")


def test_a_token_from_a_clock_that_is_little_ahead_is_taken(tokens: Tokens, clock: Clock) -> None:
    token = forge(tokens, nbf=int(clock.now) + 5, iat=int(clock.now) + 5)
    assert tokens.read(token).user_id == 7


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_of_the_future_is_not_yet_valid(tokens: Tokens, clock: Clock, claim: str) -> None:
    token = forge(tokens, **_changed(claim, int(clock.now) + 600))
    assert refusal(tokens, token) == ("Invalid token", "The token is not yet valid (nbf)")


def test_another_key_is_a_bad_signature(tokens: Tokens) -> None:
    token = forge(tokens, secret=SECRET + "!")
    assert refusal(tokens, token) == ("Invalid token", "Signature verification failed")


def test_a_changed_payload_is_a_bad_signature(tokens: Tokens) -> None:
    header, _, signature = issue(tokens).split(".")
    _, payload, _ = forge(tokens, role="admin", secret=SECRET + "!").split(".")
    token = f"{header}.{payload}.{signature}"
    assert refusal(tokens, token) == ("Invalid token", "Signature verification failed")


@pytest.mark.parametrize(
    "claim",
    ["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "identity", "name", "role", "epoch"],
)
def test_every_claim_is_required(tokens: Tokens, claim: str) -> None:
    token = forge(tokens, **_changed(claim, None))
    assert refusal(tokens, token) == ("Invalid token", f'Token is missing the "{claim}" claim')


@pytest.mark.parametrize("claim", ["iss", "aud"])
def test_a_token_of_another_service_is_refused(tokens: Tokens, claim: str) -> None:
    token = forge(tokens, **_changed(claim, "elsewhere"))
    assert refusal(tokens, token) == ("Invalid token", "Token is not one of this service")


def test_a_token_of_another_type_is_refused(tokens: Tokens) -> None:
    token = forge(tokens, typ="JWT")
    assert refusal(tokens, token) == ("Invalid token", "Token is not one of this service")


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("identity", "7"),
        ("identity", True),
        ("identity", 8),
        ("identity", 2**63),
        ("sub", "8"),
        ("sub", 7),
        ("epoch", "3"),
        ("exp", 1e300),
        ("exp", "soon"),
        ("nbf", "soon"),
        ("name", 7),
        ("role", ["admin"]),
        ("jti", 7),
    ],
)
def test_a_claim_of_the_wrong_form_is_refused(tokens: Tokens, claim: str, value: object) -> None:
    assert refusal(tokens, forge(tokens, **_changed(claim, value)))[0] == "Invalid token"


@pytest.mark.parametrize("algorithm", ["none", "HS384", "HS512"])
def test_no_other_algorithm_is_taken(tokens: Tokens, algorithm: str) -> None:
    claims = jwt.decode(issue(tokens), options={"verify_signature": False})
    key = "" if algorithm == "none" else SECRET * 2
    token = jwt.encode(claims, key, algorithm, headers={"typ": "squash+jwt"})
    assert refusal(Tokens(SECRET * 2, minutes=60), token)[0] == "Invalid token"


@pytest.mark.parametrize(
    "token", ["x", "a.b.c", "..", "e30.e30.e30", "é.é.é", "\ud800", "x" * 9000]
)
def test_what_is_no_token_cannot_be_read(tokens: Tokens, token: str) -> None:
    assert refusal(tokens, token) == ("Invalid token", "Token cannot be read")


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_no_text_breaks_the_reading_of_tokens(token: str) -> None:
    assert refusal(Tokens(SECRET, minutes=60), token)[0] == "Invalid token"


def test_a_key_that_is_too_short_makes_no_token() -> None:
    with pytest.raises(jwt.InvalidKeyError):
        issue(Tokens("short", minutes=60))


def test_tokens_are_remembered_once_they_are_made_or_read_and_forgeries_are_not(
    tokens: Tokens,
) -> None:
    made, read = issue(tokens), issue(Tokens(SECRET, minutes=60))
    for _ in range(3):
        tokens.read(made)
        tokens.read(read)
        refusal(tokens, made + "x")
    assert set(tokens._known) == {made, read}


def test_what_is_remembered_of_a_token_that_was_made_is_what_it_says(clock: Clock) -> None:
    tokens = Tokens(SECRET, minutes=60, clock=clock)
    token = issue(tokens)
    assert tokens.read(token) == Tokens(SECRET, minutes=60, clock=clock).read(token)


@pytest.mark.parametrize("scheme", ["JWT", "jwt", "Bearer", "bEARER"])
def test_jwt_and_bearer_bring_a_token(scheme: str) -> None:
    assert parse_authorization(f"{scheme} a.b.c") == "a.b.c"


def test_blanks_around_the_parts_of_the_header_do_not_matter() -> None:
    assert parse_authorization("  JWT   a.b.c ") == "a.b.c"


@pytest.mark.parametrize("scheme", ["Basic", "basic"])
def test_basic_brings_name_and_password(scheme: str) -> None:
    header = basic("mole:de:sert €").replace("Basic", scheme)
    assert parse_authorization(header) == PasswordCredentials("mole", "de:sert €")


def test_basic_in_latin_1_is_understood() -> None:
    assert parse_authorization(basic("mole:désert", "latin-1")) == PasswordCredentials(
        "mole", "désert"
    )


@pytest.mark.parametrize("header", [None, "", "  "])
def test_without_a_header_authorization_is_required(header: str | None) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        parse_authorization(header)
    assert caught.value.message == "Request does not contain an access token"
    assert (caught.value.error, caught.value.challenge) == ("Authorization Required", True)


@pytest.mark.parametrize(
    ("header", "description"),
    [
        ("Digest x", "Unsupported authorization type"),
        ("a.b.c", "Unsupported authorization type"),
        ("JWT", "Token missing"),
        ("Bearer ", "Token missing"),
        ("Basic", "Token missing"),
        ("JWT a b", "Token contains spaces"),
        ("Basic ###", "Basic credentials are not base64"),
        ("Basic é", "Basic credentials are not base64"),
        (basic("mole"), "Basic credentials contain no password"),
    ],
)
def test_a_header_of_the_wrong_form_says_why(header: str, description: str) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        parse_authorization(header)
    assert (caught.value.error, caught.value.message) == ("Invalid JWT header", description)
    assert not caught.value.challenge


@given(st.text())
def test_no_header_breaks_its_parsing(header: str) -> None:
    for text in (header, f"Basic {header}", f"JWT {header}"):
        try:
            credentials = parse_authorization(text)
        except UnauthorizedError:
            continue
        assert isinstance(credentials, str | PasswordCredentials)
