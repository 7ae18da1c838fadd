"""Brokers of Kafka for tests: librdkafka's own mock cluster, reached over TCP.

It has no Python API for its faults, so it is reached through the library's C functions. Source:
librdkafka, `rdkafka_mock.h`. What it does not have: rights, SASL, TLS, and a limit on messages;
these are played by the errors that a broker would answer with.
"""

import ctypes
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import confluent_kafka
from confluent_kafka import Consumer, TopicPartition

PRODUCE, METADATA, INIT_PRODUCER_ID = 0, 3, 22
UNKNOWN_TOPIC, TOO_LARGE, NOT_AUTHORIZED, CLUSTER_NOT_AUTHORIZED = 3, 10, 29, 31

_PRODUCER = 0
_SIZE = 512
_LONGEST_READ_S = 30.0


@dataclass(frozen=True)
class Read:
    """A message as a consumer has read it."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.value)


class MockKafka:
    """A cluster of one broker in this process."""

    def __init__(self, brokers: int = 1) -> None:
        self._lib = _library()
        conf = self._lib.rd_kafka_conf_new()
        text = ctypes.create_string_buffer(_SIZE)
        self._owner = self._lib.rd_kafka_new(_PRODUCER, conf, text, _SIZE)
        assert self._owner, text.value
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._owner, brokers)
        assert self._cluster
        found = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.address: str = found.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._owner)

    def create(self, topic: str, *, partitions: int = 4) -> None:
        """Create a topic; the others are made when somebody writes to them."""
        assert not self._lib.rd_kafka_mock_topic_create(
            self._cluster, topic.encode(), partitions, 1
        )

    def go_down(self) -> None:
        """Close all connections and take no new ones; what was written stays."""
        assert not self._lib.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def come_up(self) -> None:
        """Take connections again."""
        assert not self._lib.rd_kafka_mock_broker_set_up(self._cluster, 1)

    def slow_down(self, milliseconds: int) -> None:
        """Answer so much later."""
        assert not self._lib.rd_kafka_mock_broker_set_rtt(self._cluster, 1, milliseconds)

    def fail(self, request: int, *errors: int) -> None:
        """Answer the next requests of a kind with these errors, one after the other."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, ctypes.c_size_t(len(errors)), codes
        )

    def stop_failing(self, request: int) -> None:
        """Forget the errors that are left."""
        self._lib.rd_kafka_mock_clear_request_errors(self._cluster, request)

    def set_topic_error(self, topic: str, error: int = 0) -> None:
        """Say of a topic that it is in error, or no longer."""
        self._lib.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), error)

    @contextmanager
    def counting(self) -> Iterator[Callable[[int], int]]:
        """Count requests meanwhile; yield what tells how many of a kind have come."""
        self._lib.rd_kafka_mock_start_request_tracking(self._cluster)
        try:
            yield self._count
        finally:
            self._lib.rd_kafka_mock_stop_request_tracking(self._cluster)

    def _count(self, request: int) -> int:
        size = ctypes.c_size_t()
        found = self._lib.rd_kafka_mock_get_requests(self._cluster, ctypes.byref(size))
        keys = [self._lib.rd_kafka_mock_request_api_key(found[at]) for at in range(size.value)]
        self._lib.rd_kafka_mock_request_destroy_array(found, size)
        return keys.count(request)

    @contextmanager
    def consumer(self, **more: Any) -> Iterator[Consumer]:
        settings = {
            "bootstrap.servers": self.address,
            "group.id": uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
            **more,
        }
        consumer = Consumer(settings)
        try:
            yield consumer
        finally:
            consumer.close()

    def read(self, topic: str) -> list[Read]:
        """Read all that a topic has, in the order of partitions and offsets."""
        found: list[Read] = []
        with self.consumer() as consumer:
            parts = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            ends = {}
            for number in parts:
                ends[number] = consumer.get_watermark_offsets(
                    TopicPartition(topic, number), timeout=10
                )[1]
            some = [number for number, end in ends.items() if end]
            if not some:
                return []
            consumer.assign([TopicPartition(topic, number, 0) for number in some])
            left = sum(ends[number] for number in some)
            gives_up = time.monotonic() + _LONGEST_READ_S
            while len(found) < left and time.monotonic() < gives_up:
                message = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    found.append(_read(message))
        assert len(found) >= left
        return sorted(found, key=lambda item: (item.partition, item.offset))


def _read(message: Any) -> Read:
    return Read(
        message.topic(),
        message.partition(),
        message.offset(),
        (message.key() or b"").decode(),
        message.value() or b"",
    )


def _library() -> Any:
    """Load the librdkafka that confluent-kafka brings."""
    package = Path(confluent_kafka.__file__).parent
    (path,) = (package.parent / "confluent_kafka.libs").glob("librdkafka-*.so*")
    lib = ctypes.CDLL(str(path))
    pointers = ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new")
    for name in pointers:
        getattr(lib, name).restype = ctypes.c_void_p
    lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    lib.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    whole = ctypes.c_void_p
    lib.rd_kafka_mock_cluster_new.argtypes = [whole, ctypes.c_int]
    lib.rd_kafka_mock_cluster_bootstraps.argtypes = [whole]
    lib.rd_kafka_mock_cluster_destroy.argtypes = [whole]
    lib.rd_kafka_destroy.argtypes = [whole]
    lib.rd_kafka_mock_topic_create.argtypes = [whole, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    lib.rd_kafka_mock_broker_set_down.argtypes = [whole, ctypes.c_int32]
    lib.rd_kafka_mock_broker_set_up.argtypes = [whole, ctypes.c_int32]
    lib.rd_kafka_mock_broker_set_rtt.argtypes = [whole, ctypes.c_int32, ctypes.c_int]
    lib.rd_kafka_mock_push_request_errors_array.argtypes = [
        whole,
        ctypes.c_int16,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_int),
    ]
    lib.rd_kafka_mock_start_request_tracking.argtypes = [whole]
    lib.rd_kafka_mock_stop_request_tracking.argtypes = [whole]
    lib.rd_kafka_mock_get_requests.argtypes = [whole, ctypes.POINTER(ctypes.c_size_t)]
    lib.rd_kafka_mock_get_requests.restype = ctypes.POINTER(whole)
    lib.rd_kafka_mock_request_api_key.argtypes = [whole]
    lib.rd_kafka_mock_request_api_key.restype = ctypes.c_int16
    lib.rd_kafka_mock_request_destroy_array.argtypes = [ctypes.POINTER(whole), ctypes.c_size_t]
    lib.rd_kafka_mock_clear_request_errors.argtypes = [whole, ctypes.c_int16]
    lib.rd_kafka_mock_topic_set_error.argtypes = [whole, ctypes.c_char_p, ctypes.c_int]
    return lib
