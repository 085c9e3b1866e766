"""The route that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from sp_edge_runtime.page.page import Page
from sp_edge_runtime.page.parts import ThePage

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(page: ThePage) -> Response:
    """Counts and times of the stream, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_PageCollector(page))
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})


class _PageCollector(Collector):
    """What the page knows at this moment."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def collect(self) -> Iterator[Metric]:
        """Each metric once, with a sample a source."""
        page, sources = self._page, self._page.watch.sources.values()
        of_source = ["source"]
        frames = CounterMetricFamily("sp_edge_frames", "Frames that were recognized", labels=of_source)
        labels = CounterMetricFamily("sp_edge_labels", "Frames by the label that was shown", labels=["source", "label"])
        stages = CounterMetricFamily("sp_edge_stage_seconds", "Time that a stage took in all", labels=["source", "stage"])
        lost = CounterMetricFamily(
            "sp_edge_frames_lost", "Frames that were captured and not recognized", labels=["source", "why"]
        )
        restarts = CounterMetricFamily("sp_edge_source_restarts", "How often the source was lost", labels=of_source)
        up = GaugeMetricFamily("sp_edge_source_up", "1 where frames come", labels=of_source)
        rate = GaugeMetricFamily("sp_edge_frames_per_second", "Recognized frames a second of late", labels=of_source)
        age = GaugeMetricFamily("sp_edge_frame_age_seconds", "From capture to result, of the newest frame", labels=of_source)
        for one in sources:
            name = one.shown
            frames.add_metric([name], one.number)
            for label, count in dict(one.labels).items():
                labels.add_metric([name, label], count)
            for stage, seconds in dict(one.stages).items():
                stages.add_metric([name, stage], seconds)
            if one.of is None:  # what a camera loses is lost once, however many regions it has
                for why in ("dropped", "stale", "damaged"):
                    lost.add_metric([name, why], getattr(one.source, why))
                restarts.add_metric([name], one.source.restarts)
            up.add_metric([name], one.healthy)
            rate.add_metric([name], one.fps)
            if one.newest is not None:
                age.add_metric([name], one.newest.age_ms / 1000)
        yield from (frames, labels, stages, lost, restarts, up, rate, age)
        bank = page.recognizer.bank
        yield GaugeMetricFamily("sp_edge_bank_version", "Counts the changes of the bank", value=bank.version)
        yield GaugeMetricFamily("sp_edge_bank_classes", "Taught classes", value=len(bank.classes))
        yield GaugeMetricFamily("sp_edge_kept_frames", "Frames that are kept for a look", value=len(page.harvest.kept))
        yield CounterMetricFamily(
            "sp_edge_requests_refused", "Requests that the stream left no time for", value=page.gate.refused
        )
        sent = CounterMetricFamily("sp_edge_messages_sent", "Messages that arrived", labels=["place"])
        dropped = CounterMetricFamily("sp_edge_messages_dropped", "Messages that never will", labels=["place"])
        for sink in page.sinks:
            if hasattr(sink, "delivery"):
                delivery = sink.delivery()
                sent.add_metric([delivery.place], delivery.sent)
                dropped.add_metric([delivery.place], delivery.dropped)
        yield from (sent, dropped)
