"""Counters of the service, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recog.runtime.prediction import Prediction
from recog.serve.inference import Model, Unavailable
from recog.serve.messages import Ready

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """What was answered. The evaluation's figures stand beside those that show drift."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "recog_requests", "Requests by route and status code.", ("route", "status"), registry=registry
        )
        self.duration = Histogram(
            "recog_request_seconds",
            "Seconds from a request to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "recog_batch_images",
            "Images that were answered in one batch.",
            ("model",),
            buckets=_SIZES,
            registry=registry,
        )
        self._images = Counter("recog_images", "Images that were answered.", ("model",), registry=registry)
        self._bad = Counter("recog_bad_images", "Images that could not be read.", ("model",), registry=registry)
        self._labels = Counter(
            "recog_predicted", "Predicted classes, those of unknown images too.", ("model", "label"), registry=registry
        )
        self._unknown = Counter("recog_unknown", "Images that were called unknown.", ("model",), registry=registry)
        self._confidence = Counter(
            "recog_confidence_sum",
            "Sum of the highest probabilities; divided by recog_images_total it is the mean confidence.",
            ("model",),
            registry=registry,
        )
        self.open_requests = Gauge("recog_open_requests", "Requests that are read or answered now.", registry=registry)
        registry.register(_Models(list(models)))

    def count_batch(self, model: str, num_images: int) -> None:
        self._batches.labels(model).observe(num_images)

    def count(self, model: str, answers: Iterable[Prediction | str]) -> None:
        """`answers` of one request; a text stands for an image that could not be read."""
        for answer in answers:
            if isinstance(answer, str):
                self._bad.labels(model).inc()
                continue
            self._images.labels(model).inc()
            self._confidence.labels(model).inc(float(answer.probs.max()))
            if answer.is_unknown:
                self._unknown.labels(model).inc()
            for label in replace(answer, is_unknown=None).labels:
                self._labels.labels(model, label).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Models(Collector):
    """What a model is now, and what its evaluation found."""

    def __init__(self, models: list[Model]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily("recog_model_ready", "1 where the model answers.", labels=("model",))
        waiting = GaugeMetricFamily("recog_waiting_requests", "Requests that wait for the network.", labels=("model",))
        restarts = GaugeMetricFamily(
            "recog_inference_restarts", "Inference processes that followed one that had ended.", labels=("model",)
        )
        info = GaugeMetricFamily("recog_model_info", "The version that answers.", labels=("model", "version", "digest"))
        shares = GaugeMetricFamily(
            "recog_evaluation_class_share",
            "Share of each predicted class in the evaluation.",
            labels=("model", "label"),
        )
        confidence = GaugeMetricFamily(
            "recog_evaluation_mean_confidence", "Mean confidence in the evaluation.", labels=("model",)
        )
        unknown = GaugeMetricFamily(
            "recog_evaluation_unknown_share", "Share of images called unknown in the evaluation.", labels=("model",)
        )
        for model in self._models:
            ready.add_metric((model.name,), float(model.is_ready))
            waiting.add_metric((model.name,), model.num_waiting)
            restarts.add_metric((model.name,), model.num_restarts)
            loaded = _loaded(model)
            if loaded is None:
                continue
            info.add_metric((model.name, loaded.version, loaded.digest), 1.0)
            baseline = loaded.baseline
            for label, share in baseline.class_shares.items() if baseline else ():
                shares.add_metric((model.name, label), share)
            if baseline and baseline.mean_confidence is not None:
                confidence.add_metric((model.name,), baseline.mean_confidence)
            if baseline and baseline.unknown_share is not None:
                unknown.add_metric((model.name,), baseline.unknown_share)
        yield from (ready, waiting, restarts, info, shares, confidence, unknown)


def _loaded(model: Model) -> Ready | None:
    try:
        return model.ready
    except Unavailable:
        return None
