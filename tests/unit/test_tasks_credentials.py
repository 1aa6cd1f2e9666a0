"""What tasks of rotation refuse before they connect to a server, and what they print."""

from __future__ import annotations

import pytest

from components import data
from tasks.credentials import postgres, redis
from tasks.credentials.commands import Variables
from tasks.environment import Environment
from tasks.errors import Refused

DATABASE = {
    "ROTATE_DATABASE_ADMIN_URL": "postgresql://shop:one%2F@db/shop",
    "ROTATE_DATABASE_ADMIN_URL_PREVIOUS": "postgresql://shop:two@db/shop",
    "ROTATE_DATABASE_OWNER": "shop",
    "ROTATE_DATABASE_NEW_URL": "postgresql://shop_b:three@db/shop",
    "ROTATE_DATABASE_OLD_URL": "postgresql://shop:two@db/shop",
}
REDIS = {
    "ROTATE_REDIS_ADMIN_URL": "redis://default:four@cache/0",
    "ROTATE_REDIS_NEW_URL": "redis://shop-b:five@cache/0",
}


def rotation(values: dict[str, str], kind: str = "database") -> None:
    variables = Variables(Environment(values), kind)
    with variables.server() as server:
        variables.rotation(server)


def test_what_is_complete_is_taken() -> None:
    rotation(DATABASE)
    rotation(REDIS, "redis")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ROTATE_DATABASE_NEW_URL": ""}, "ROTATE_DATABASE_NEW_URL is not set"),
        ({"ROTATE_DATABASE_OWNER": ""}, "ROTATE_DATABASE_OWNER is not set"),
        (
            {"ROTATE_DATABASE_ADMIN_URL": "postgresql://shop@db/shop"},
            "ROTATE_DATABASE_ADMIN_URL needs a user and",
        ),
        ({"ROTATE_DATABASE_NEW_URL": "postgresql://shop:x@db/shop"}, "uses the admin role shop"),
        ({"ROTATE_DATABASE_OLD_URL": "postgresql://shop_b:x@db/shop"}, "both use shop_b"),
        ({"ROTATE_DATABASE_ADMIN_FIXED": "true"}, "a role of its own"),
        ({"ROTATE_DATABASE_ADMIN_FIXED": "yes"}, "true or false"),
    ],
)
def test_what_cannot_work_is_refused(changed: dict[str, str], why: str) -> None:
    with pytest.raises(Refused, match=why):
        rotation(DATABASE | changed)


@pytest.mark.parametrize(
    "url",
    [
        "http://a:canary@h/0",
        "redis://a:canary@canary@h/0",
        "redis://a:canary/@h/0",
        "redis://a:canary@h:canary/0",
        "redis://a:canary@[canary/0",
        "redis://a:canary@h/canary",
    ],
)
def test_a_wrong_url_is_named_and_not_shown(url: str) -> None:
    with pytest.raises(Refused, match="SOME_URL") as caught:
        redis.account(url, "SOME_URL")
    assert "canary" not in str(caught.value)


def test_accounts_are_as_their_urls_mean_them_and_do_not_show_passwords() -> None:
    for made in (
        postgres.account("postgresql://r%40le:p%2Fss@h/d", "V"),
        redis.account("rediss://r%40le:p%2Fss@h:1/0?ssl_cert_reqs=none", "V"),
    ):
        assert (made.role, made.password) == ("r@le", "p/ss")
        assert "p/ss" not in repr(made)
        assert "p%2Fss" not in repr(made)
    assert redis.account("redis://:p@h", "V").role == "default"


def test_a_redis_without_a_password_can_be_asked_but_has_none_to_rotate() -> None:
    """An external Redis may need no password: logging customers out works there, too."""
    open_to_all = redis.account("redis://cache:6379/0", "SOME_URL")
    assert (open_to_all.role, open_to_all.password) == ("default", "")
    with pytest.raises(Refused, match="SOME_URL has no password"):
        redis.RedisServer([open_to_all]).set_admin_password(open_to_all)


def test_redis_begins_with_the_rights_that_the_task_gives() -> None:
    """A user made again at Redis' start is the one that was tested."""
    assert data.REDIS_RULES == redis.RULES


def test_their_secrets_are_known_as_such() -> None:
    assert Environment(DATABASE | REDIS).secrets == {"one%2F", "one/", "two", "three", "four", "five"}
