"""The section `redis`: what is taken, what is a fault, and that no password shows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import Secret
from backends.redis_section import RedisSection, connection_options, read_address

PASSWORD = "s3cr3t-w0rd"


def convert(**keys: Any) -> RedisSection:
    return msgspec.convert(
        {"url": "redis://host"} | keys, RedisSection, dec_hook=lambda kind, text: kind(text)
    )


def fault_of(**keys: Any) -> str:
    with pytest.raises(msgspec.ValidationError) as caught:
        convert(**keys)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", "redis://host:6379"),
        ("redis:///0", "redis://localhost:6379"),
        (f"redis://user:{PASSWORD}@host:7000/3", "redis://host:7000"),
        (f"rediss://:{PASSWORD}@host:7000", "rediss://host:7000"),
        (f"redis://host?password={PASSWORD}", "redis://host:6379"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
        (f"unix://user:{PASSWORD}@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_user_and_password(url: str, address: str) -> None:
    assert read_address(url)[1] == address
    assert PASSWORD not in repr(RedisSection(url=url, password=Secret(PASSWORD)))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:6379",
        "http://host",
        "Redis://host",
        "redis://host/first",
        "redis://host?socket_timeout=9",
        "redis://host?db=first",
        "unix://",
        "redis://host:70000",
        f"redis://:{PASSWORD}/x@host",
        f"redis://:{PASSWORD}#x@host",
        f"redis://:{PASSWORD}?x@host",
        f"redis://:12#{PASSWORD}@host",
        f"redis://user:12/{PASSWORD}@host",
        f"redis://user:12?{PASSWORD}@host",
        f"redis://[{PASSWORD}@host",
        f"redis://:{PASSWORD}\u2100@host",
    ],
)
def test_a_url_that_cannot_be_used_is_a_fault_that_does_not_repeat_it(url: str) -> None:
    fault = fault_of(url=url)
    assert "url: " in fault
    assert PASSWORD not in fault and "s3cr3t" not in fault


@given(st.text())
def test_no_url_ends_in_anything_but_a_fault(url: str) -> None:
    for scheme in ("redis://", "unix://", ""):
        try:
            section = convert(url=scheme + url)
        except msgspec.ValidationError:
            continue
        assert connection_options(section)


def test_keys_of_the_section_go_before_those_in_the_url() -> None:
    url = "redis://old:old@host:7000/3"
    options = connection_options(RedisSection(url=url, username="new", password=Secret(PASSWORD), db=0))
    assert (options["username"], options["password"], options["db"]) == ("new", PASSWORD, 0)
    options = connection_options(RedisSection(url=url))
    assert (options["username"], options["password"], options["db"]) == ("old", "old", 3)


def test_a_server_with_tls_has_to_prove_its_name() -> None:
    options = connection_options(
        convert(url="rediss://host", ca_file="/ca", cert_file="/cert", key_file="/key")
    )
    assert options["ssl_check_hostname"] is True and options["ssl_cert_reqs"] == "required"
    files = (options["ssl_ca_certs"], options["ssl_certfile"], options["ssl_keyfile"])
    assert files == ("/ca", "/cert", "/key")


def test_a_certificate_without_tls_is_a_fault() -> None:
    assert "rediss://" in fault_of(ca_file="/etc/ca.pem")


@pytest.mark.parametrize("types", [{"all": []}, {"GPU": [], "gpu": []}, {"": []}])
def test_node_types_whose_fields_would_fall_together_are_a_fault(types: dict[str, list[str]]) -> None:
    assert "node_types" in fault_of(node_types=types)


def test_a_gpu_type_has_to_be_a_node_type() -> None:
    assert "'BIG'" in fault_of(gpu_types=["BIG"])
    assert "'GPU'" in fault_of(node_types={"CPU": ["normal"]}, gpu_types=["GPU"])
    assert convert(node_types={"BIG": ["fat"]}, gpu_types=["BIG"])


@pytest.mark.parametrize(
    "keys", [{"hosts": "h"}, {"expire_s": -1}, {"timeout_s": 0}, {"db": -1}, {"layout": "set"}]
)
def test_a_key_or_value_that_means_nothing_is_a_fault(keys: dict[str, Any]) -> None:
    assert fault_of(**keys)
