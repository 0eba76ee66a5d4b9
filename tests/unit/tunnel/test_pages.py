from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from fruits_cli.errors import TunnelError
from fruits_cli.tunnel.goal import Endpoint, Goal
from fruits_cli.tunnel.reachable import Reachable
from fruits_cli.tunnel.relay import OpenFailed
from fruits_cli.tunnel.socks import Reply
from fruits_cli.tunnel.tunnel import find_answering

SPARK, YARN = 18080, 8088
GOAL = Goal(Endpoint("h", 22, "hadoop", "h"), Reachable(), hosts=("localhost",))


class Host:
    """Its ports answer from their n-th question on; others refuse as `reply` says."""

    def __init__(self, answers_from, reply=Reply.CONNECTION_REFUSED):
        self.answers_from, self.reply, self.asked = answers_from, reply, Counter()

    async def open(self, target):
        self.asked[target.port] += 1
        if self.asked[target.port] < self.answers_from.get(target.port, 1000):
            raise OpenFailed("no", reply=self.reply)
        return self

    def close(self):
        pass


def answering(host, *wanted):
    said = []
    found = asyncio.run(find_answering(host, GOAL, wanted=wanted, tell=said.append))
    return found, said


def test_a_page_that_is_wanted_is_waited_for():
    host = Host({SPARK: 2})

    found, said = answering(host, "spark", "http://10.0.0.7/")

    assert found == {"spark"}
    assert said == ["Waiting for spark, which may still be starting: two minutes at most."]
    assert host.asked[YARN] == 1


def test_a_page_that_nobody_wants_is_asked_once():
    host = Host({YARN: 1, SPARK: 2})

    assert answering(host, "yarn") == ({"yarn"}, [])
    assert host.asked[SPARK] == 1


def test_a_host_that_forbids_forwarding_is_not_waited_for():
    with pytest.raises(TunnelError, match="h forbids forwarding"):
        answering(Host({}, Reply.NOT_ALLOWED), "spark")
