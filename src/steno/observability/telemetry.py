"""Structured logs with an allow-list of fields, and metrics with bound handles.

One event is one line: JSON (or, for people, aligned text) on standard error. What is not in
``vocabulary`` is dropped and counted; in ``strict`` mode, which the tests use, it is an error.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from steno.observability.vocabulary import BUCKETS_S, FIELDS, METRICS, Metric, full_name
from steno.ports import Add, FieldValue

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import HistogramMetricFamily
    from prometheus_client.metrics import MetricWrapperBase

Level = Literal["debug", "info", "warning", "error"]

MAX_VALUE_CHARS: Final = 256
MAX_SERIES: Final = 200
OVERFLOW: Final = "other"

_EVENT = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_REFUSED: Final = "steno_telemetry_refused_total"


class TelemetryRefused(Exception):
    """Strict mode: an event, field, metric or label is not in the vocabulary."""


class LogTelemetry:
    """Implements ``ports.Telemetry`` with structlog and prometheus-client.

    Args:
        level: Least level written.
        form: ``json`` for machines, ``console`` for people.
        stream: Where lines go; standard error when not given.
        strict: Raise ``TelemetryRefused`` instead of dropping what is not in the vocabulary.
    """

    def __init__(
        self,
        *,
        level: Level = "info",
        form: Literal["json", "console"] = "json",
        stream: TextIO | None = None,
        strict: bool = False,
    ) -> None:
        # Its development half pulls in a terminal library: 0.1 s that `steno outbox` need not pay.
        import structlog

        self._strict = strict
        self._metrics = _Metrics(strict=strict)
        self._refused = self._metrics.bind("counter", _REFUSED, {})
        target = stream if stream is not None else sys.stderr
        render: Callable[..., Any]  # Any: structlog's processors are typed that way
        if form == "json":
            render = structlog.processors.JSONRenderer(ensure_ascii=True)
        else:
            render = structlog.dev.ConsoleRenderer(colors=target.isatty())
        self._log: Any = structlog.wrap_logger(  # Any: its methods are made per level
            structlog.PrintLogger(target),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
                render,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
            context_class=dict,
            cache_logger_on_first_use=True,
        )

    # --- logs ---------------------------------------------------------------------------------

    def debug(self, event: str, **fields: FieldValue) -> None:
        """Detail for the one who is looking for a fault."""
        self._log.debug(event, **self._allowed(event, fields))

    def info(self, event: str, **fields: FieldValue) -> None:
        """Tell the story."""
        self._log.info(event, **self._allowed(event, fields))

    def warning(self, event: str, **fields: FieldValue) -> None:
        """Something to read tomorrow."""
        self._log.warning(event, **self._allowed(event, fields))

    def error(self, event: str, **fields: FieldValue) -> None:
        """Something that wakes somebody."""
        self._log.error(event, **self._allowed(event, fields))

    def _allowed(self, event: str, fields: Mapping[str, FieldValue]) -> dict[str, FieldValue]:
        if self._strict and not _EVENT.fullmatch(event):
            raise TelemetryRefused(f"not an event name: {event!r}")
        kept: dict[str, FieldValue] = {}
        for name, value in fields.items():
            if name in FIELDS:
                kept[name] = _clean(value)
            elif self._strict:
                raise TelemetryRefused(f"field {name!r} of {event!r} is not on the allow-list")
            else:
                self._refused(1)
        return kept

    def capture_library_logs(self) -> None:
        """Send what libraries log through the allow-list: their words are not ours to print.

        Only the logger's name, the level and the class of an exception are kept, since a
        library's message may quote a frame, an address with its token, or a header.
        """
        handler = _LibraryHandler(self)
        root = logging.getLogger()
        for old in root.handlers[:]:
            if isinstance(old, _LibraryHandler):
                root.removeHandler(old)
        root.addHandler(handler)
        root.setLevel(logging.WARNING)

    def capture_stray_errors(self) -> None:
        """Log by its class alone what a thread or a finaliser raises and nobody catches.

        Python's own hooks would print the error's text, which may quote what was said.
        """

        def in_thread(stray: threading.ExceptHookArgs) -> None:
            self.error("process.stray_error", error=stray.exc_type.__name__)

        def in_finaliser(stray: sys.UnraisableHookArgs) -> None:
            self.error("process.stray_error", error=stray.exc_type.__name__)

        threading.excepthook = in_thread
        sys.unraisablehook = in_finaliser

    # --- metrics ------------------------------------------------------------------------------

    def counter(self, name: str, **labels: str) -> Add:
        """Return a bound adder."""
        return self._metrics.bind("counter", name, labels)

    def histogram(self, name: str, **labels: str) -> Add:
        """Return a bound observer of seconds."""
        return self._metrics.bind("histogram", name, labels)

    def gauge(self, name: str, **labels: str) -> Add:
        """Return a bound setter."""
        return self._metrics.bind("gauge", name, labels)

    @property
    def registry(self) -> CollectorRegistry:
        """The registry of this process's metrics, made at first use."""
        return self._metrics.registry

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


def _clean(value: FieldValue) -> FieldValue:
    """Return a value that stays on its line and cannot drive a terminal."""
    if not isinstance(value, str):
        return value
    if len(value) > MAX_VALUE_CHARS:
        value = value[:MAX_VALUE_CHARS] + "…"
    return value if value.isprintable() else value.encode("unicode_escape").decode("ascii")


class _LibraryHandler(logging.Handler):
    def __init__(self, telemetry: LogTelemetry) -> None:
        super().__init__(logging.WARNING)
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        write = (
            self._telemetry.error if record.levelno >= logging.ERROR else self._telemetry.warning
        )
        write("library.logged", library=record.name, error=error, line=record.lineno)


def _nothing(_: float) -> None:
    """Take a value of a metric that is not in the vocabulary."""


class _Histogram:
    """Counts by bucket, for the library to show: three are observed for every record, and the
    library's own way of observing costs four times as much. Observed on one thread.
    """

    def __init__(self, name: str, metric: Metric) -> None:
        self._name = name
        self._metric = metric
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def series(self, values: tuple[str, ...]) -> Add:
        counts, total = self._series.setdefault(values, ([0] * (len(BUCKETS_S) + 1), [0.0]))

        def observe(value: float) -> None:
            counts[bisect_left(BUCKETS_S, value)] += 1
            total[0] += value

        return observe

    def collect(self) -> Iterator[HistogramMetricFamily]:
        from prometheus_client.core import HistogramMetricFamily
        from prometheus_client.utils import floatToGoString

        family = HistogramMetricFamily(self._name, self._metric.text, labels=self._metric.labels)
        bounds = [*map(floatToGoString, BUCKETS_S), "+Inf"]
        for values, (counts, total) in self._series.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric(values, buckets, total[0])
        yield family

    def describe(self) -> Iterator[HistogramMetricFamily]:
        return self.collect()


class _Metrics:
    """Binds handles to prometheus-client, each made once and kept."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._families: dict[str, MetricWrapperBase] = {}
        self._histograms: dict[str, _Histogram] = {}
        self._handles: dict[tuple[str, tuple[str, ...]], Add] = {}
        self._series: dict[str, int] = {}
        self._registry: CollectorRegistry | None = None

    @property
    def registry(self) -> CollectorRegistry:
        if self._registry is None:
            from prometheus_client import (
                CollectorRegistry,
                GCCollector,
                PlatformCollector,
                ProcessCollector,
                disable_created_metrics,
            )

            disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs has no types
            registry = CollectorRegistry(auto_describe=True)
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
            self._registry = registry
        return self._registry

    def bind(self, kind: str, name: str, labels: Mapping[str, str]) -> Add:
        name = full_name(kind, name)
        metric = METRICS.get(name)
        if metric is None or metric.kind != kind or set(labels) != set(metric.labels):
            if self._strict:
                raise TelemetryRefused(f"no {kind} {name!r} with labels {sorted(labels)}")
            return _nothing
        values = tuple(str(_clean(labels[label])) for label in metric.labels)
        key = (name, values)
        if (known := self._handles.get(key)) is not None:
            return known
        if metric.labels and self._series.get(name, 0) >= MAX_SERIES:
            # Labels have few values; if one runs away, memory and scrapes must not.
            values = (OVERFLOW,) * len(values)
            if (known := self._handles.get((name, values))) is not None:
                return known
        self._series[name] = self._series.get(name, 0) + 1
        handle = self._bound(name, values)
        self._handles[name, values] = handle
        return handle

    def _bound(self, name: str, values: tuple[str, ...]) -> Add:
        from prometheus_client import Counter, Gauge

        metric = METRICS[name]
        if metric.kind == "histogram":
            histogram = self._histograms.get(name)
            if histogram is None:
                histogram = self._histograms[name] = _Histogram(name, metric)
                self.registry.register(histogram)
            return histogram.series(values)
        family = self._families.get(name)
        if family is None:
            wrapper = Counter if metric.kind == "counter" else Gauge
            family = wrapper(name, metric.text, metric.labels, registry=self.registry)
            self._families[name] = family
        child = family.labels(*values) if values else family
        match child:
            case Gauge():
                return child.set
            case Counter():
                return child.inc
            case _:
                return _nothing
