"""Where the commands that recognize a stream send its results, besides what they show themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sp_edge.cli.shared import PATH, together
from sp_edge.errors import SettingsError

if TYPE_CHECKING:
    from sp_edge_runtime.recognizer import Recognizer
    from sp_edge_runtime.sinks.publisher import Published
    from sp_edge_runtime.streams.result import Sink

network_options = together(
    click.option("--mqtt", metavar="URL", help="Publish to a broker: mqtt://[user:password@]host/topic."),
    click.option("--home-assistant", is_flag=True, help="Announce the sources to Home Assistant on the broker of --mqtt."),
    click.option(
        "--boxes",
        is_flag=True,
        help="Recognize the boxes that other programs publish to topic/NAME/boxes on the broker of --mqtt.",
    ),
    click.option("--webhook", metavar="URL", help="Post each message to an address: https://host/path."),
    click.option(
        "--publish",
        type=click.Choice(["all", "frames", "events"]),
        default="all",
        show_default=True,
        help="Choose what goes to --mqtt and --webhook.",
    ),
)
json_lines_option = click.option(
    "--json", "json_file", metavar="FILE", help="Add a JSON line for each frame and event to FILE; '-' prints them."
)
harvest_option = click.option(
    "--harvest",
    type=PATH,
    metavar="DIR",
    help="Keep frames worth a look in this folder: new, changing, unsure and different ones, at most 2000 and 256 MB.",
)


def refuse_alone(mqtt: str | None, *, home_assistant: bool, boxes: bool) -> None:
    """Refuses Home Assistant and boxes without their broker.

    Raises:
        SettingsError: so it is.
    """
    if home_assistant and not mqtt:
        raise SettingsError("Home Assistant is reached over MQTT", expected="--mqtt URL", got="--home-assistant alone")
    if boxes and not mqtt:
        raise SettingsError("boxes of other programs come over MQTT", expected="--mqtt URL", got="--boxes alone")


def json_sink(file: str) -> Sink:
    """What `--json` writes lines to: a file, or for '-' the terminal."""
    from sp_edge_runtime.sinks.json_lines import JsonLinesSink, JsonStreamSink

    return JsonStreamSink() if file == "-" else JsonLinesSink(Path(file))


def output_sinks(
    recognizer: Recognizer,
    json_file: str | None,
    mqtt: str | None,
    webhook: str | None,
    publish: Published,
    *,
    home_assistant: bool,
    boxes: bool,
) -> Iterator[Sink]:
    """The sinks of `json_lines_option` and `network_options`, opened one by one."""
    if json_file:  # before what is published, so that FILE has it, too, whenever the program ends
        yield json_sink(json_file)
    if mqtt:
        from sp_edge_runtime.sinks.boxes import Boxes
        from sp_edge_runtime.sinks.mqtt import MqttSink

        yield MqttSink(
            mqtt,
            publish,
            classes=(lambda: recognizer.bank.classes) if home_assistant else None,
            boxes=Boxes(recognizer) if boxes else None,
        )
    if webhook:
        from sp_edge_runtime.sinks.webhook import WebhookSink

        yield WebhookSink(webhook, publish)
