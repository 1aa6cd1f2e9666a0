"""Every kind of secret is rotated under customers who are logged in; the real servers say what is dead."""

from __future__ import annotations

import base64
import json
import os

import boto3
from botocore.exceptions import ClientError

from sandbox.traffic import client_for
from tests.support.cluster_stack import Stack
from tests.support.customers import Customers, logged_in, webhook
from tests.support.rotated_stack import KEYS, SERVERS, accepted, rotate, secret, state

BACKUPS = True


def store_keys(stack: Stack) -> dict[str, str]:
    """What the backups' pods log in to the store with."""
    data = json.loads(stack.kubectl("get", "secret", "backup-store", "-o", "json"))["data"]
    return {key.lower(): base64.b64decode(value).decode() for key, value in data.items()}


def store_accepts(keys: dict[str, str]) -> bool:
    store = boto3.client("s3", endpoint_url=os.environ["RUNBOOK_S3"], region_name="us-east-1", **keys)
    try:
        store.list_objects_v2(Bucket="backups", MaxKeys=1)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False
    return True


def test_every_kind_under_traffic_and_across_a_rollback(stack: Stack, images: dict[str, str]) -> None:
    """All of them together, as `--due` rotates them, by customers who were there before and stay until the end."""
    stack.runbook("deploy", images["shop:v2"], "--yes", "--without-proof", "a test of something else").check()
    old = {name: secret(stack, name) for name in (*KEYS, *SERVERS, "STRIPE_WEBHOOK_SECRET")}
    pair = store_keys(stack)
    new = "whsec_brought_by_its_owner"
    stack.planted.append(new)
    with Customers(stack.url) as customers:
        rotate(stack, *KEYS, *SERVERS, "BACKUP_S3", "stripe-webhook", stdin=new)
        for name in (*KEYS, *SERVERS):
            assert (state(stack, name)["phase"], state(stack, name)["previous"]) == ("verified", 0)
            assert "failure" not in state(stack, name)
            assert secret(stack, name) != old[name]
        assert secret(stack, "STRIPE_WEBHOOK_SECRET") == new
        within_the_overlap(stack, customers, old, pair, new)

        before, used = stack.config["runbook:rotated"], {name: secret(stack, name) for name in old}
        stack.runbook("rollback", "--yes").check()
        assert stack.release["image"] == images["shop:v1"]
        assert stack.config["runbook:rotated"] == before
        assert {name: secret(stack, name) for name in old} == used
        within_the_overlap(stack, customers, old, pair, new)

        rotate(stack, "STRIPE_WEBHOOK_SECRET", "BACKUP_S3", *SERVERS, "--no-overlap")
        assert (webhook(stack.url, old["STRIPE_WEBHOOK_SECRET"]), webhook(stack.url, new)) == (400, 200)
        assert (store_accepts(pair), store_accepts(store_keys(stack))) == (False, True)
        for name in SERVERS:
            assert not accepted(stack, old[name]), f"the old {name} is dead"
            assert accepted(stack, secret(stack, name))
    assert customers.failures == []
    assert customers.asked > 200
    assert stack.changes() == {}
    rows = {row["secret"]: row for row in stack.runbook("rotate", "status", "--json").check().json()}
    assert rows["DATABASE_URL"]["phase"] == "retired"
    assert rows["JWT_SECRET"]["next"]["action"] == "wait"
    assert stack.runbook("backup", "now", "--json").check().json()["kind"] == "manual", "with the new keys"


def within_the_overlap(stack: Stack, customers: Customers, old: dict[str, str], pair: dict[str, str], new: str) -> None:
    """Both values are good, and nobody was logged out."""
    assert all(accepted(stack, old[name]) for name in SERVERS)
    assert (webhook(stack.url, old["STRIPE_WEBHOOK_SECRET"]), webhook(stack.url, new)) == (200, 200)
    assert (store_accepts(pair), store_accepts(store_keys(stack))) == (True, True)
    with client_for(stack.url) as client:
        assert all(logged_in(client, token) for token in customers.tokens)
