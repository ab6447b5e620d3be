"""How often something may be tried, and that nobody is shut out by others."""

from fastapi.testclient import TestClient
import pytest

from jaxedge.foodwise.web import application
from tests.foodwise.participants import PASSWORD, join, post, set_up


@pytest.fixture
def strict(instance):
    """An application that takes three attempts a minute."""
    made = application.create_app(instance._replace(attempts=3))
    with TestClient(made, follow_redirects=False) as client:
        yield client


def test_passwords_are_not_found_by_trying(strict):
    data = {"pseudonym": "anna", "password": "wrong wrong"}
    tries = [post(strict, "/login", **data).status_code for _ in range(5)]
    assert tries == [422, 422, 422, 429, 429]


def test_nor_from_many_addresses(instance):
    app = application.create_app(instance._replace(attempts=1))
    found = []
    for n in range(12):
        one = TestClient(
            app, client=(f"192.0.2.{n}", 1000), follow_redirects=False
        )
        wrong = {"pseudonym": "Anna", "password": "wrong wrong"}
        found.append(post(one, "/login", **wrong).status_code)
    assert found == [422] * 10 + [429] * 2


def test_nobody_is_shut_out_by_others_of_one_address(instance):
    """A campus is one address, and its people join and log in at once."""
    app = application.create_app(instance._replace(attempts=1))
    campus = TestClient(app, follow_redirects=False)
    joined = [
        join(TestClient(app, follow_redirects=False), f"p{n:03d}").status_code
        for n in range(11)
    ]
    assert joined == [303] * 10 + [429]
    wrong = [
        post(
            campus, "/login", pseudonym=name, password="wrong wrong"
        ).status_code
        for name in ("p001", "p001", "p002")
    ]
    assert wrong == [422, 429, 422]
    # Whose name others try is not shut out elsewhere.
    home = TestClient(app, client=("192.0.2.7", 1000), follow_redirects=False)
    right = {"pseudonym": "p001", "password": PASSWORD}
    assert post(home, "/login", **right).status_code == 303


def test_nor_are_codes_of_teams(instance):
    app = application.create_app(instance._replace(attempts=3))
    set_up(app)
    with TestClient(app, follow_redirects=False) as client:
        join(client)
        tries = [
            post(client, "/me/team/join", "/me", code="AAAAAAAA").status_code
            for _ in range(5)
        ]
    assert tries == [422, 422, 422, 429, 429]
