"""The API's JSON, with examples: what OpenAPI shows and requests are checked by."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

Box = tuple[float, float, float, float]
Key = Annotated[str, Path(max_length=100, description="Id of a stream.", examples=["gate"])]
State = Literal["connecting", "live", "lost", "ended", "failed"]


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(examples=["unsupported_media"])
    message: str = Field(examples=["image: not a JPEG, PNG, WebP or BMP file"])


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorDetail


class Found(BaseModel):
    """One object. Pose fields are there for heads that find poses, null where unknown."""

    model_config = ConfigDict(populate_by_name=True)

    label: str = Field(alias="class", examples=["car"])
    category_id: int = Field(description="The data set's own number of the class.", examples=[4])
    score: float = Field(ge=0, le=1, examples=[0.87])
    box: Box = Field(
        description="x1, y1, x2, y2 in pixels of the upright picture.",
        examples=[[512.25, 101.5, 540.75, 130.0]],
    )
    pitch: float | None = Field(None, description="Degrees; positive up.")
    yaw: float | None = Field(None, description="Degrees; positive to the picture's left.")
    roll: float | None = Field(None, description="Degrees; positive clockwise.")
    rotation: list[list[float]] | None = Field(
        None, description="3x3, image axes; third column: where the nose points."
    )


class Detected(BaseModel):
    """What was found in a picture, best first."""

    source: str = Field(description="Always empty: the service forgets files.", examples=[""])
    width: int = Field(description="Of the upright picture, pixels.", examples=[1360])
    height: int = Field(examples=[765])
    heads: dict[str, list[Found]]


class JsonPicture(BaseModel):
    """A picture inside JSON."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(
        min_length=1,
        description="A JPEG, PNG, WebP or BMP file in base64.",
        json_schema_extra={"contentEncoding": "base64"},
    )


class StreamAdd(BaseModel):
    """A stream to add."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"url": "rtsp://user:password@10.0.0.5:554/live", "name": "Gate"}]
        },
    )

    url: str = Field(
        min_length=1,
        max_length=2048,
        description="Of a camera. What is secret in it is never shown again.",
    )
    name: str = Field(
        "",
        max_length=60,
        description="What people call it; made from the host where it is empty.",
    )


class Delay(BaseModel):
    """From decoding a frame to having its results, over the last frames; null without any."""

    median: float | None = Field(examples=[0.061])
    p95: float | None = Field(examples=[0.094])


class StreamInfo(BaseModel):
    """A stream and how it fares."""

    id: str = Field(examples=["gate"])
    name: str = Field(examples=["Gate"])
    url: str = Field(
        description="Without credentials; empty for files.",
        examples=["rtsp://***@10.0.0.5:554/live"],
    )
    fixed: bool = Field(description="Given when the service started; cannot be removed.")
    state: State = Field(examples=["live"])
    message: str = Field(description="Why it is not live, one line.", examples=[""])
    width: int = Field(description="Pixels; 0 before the first frame.", examples=[1920])
    height: int = Field(examples=[1080])
    fps: float = Field(description="Frames a second that were looked at.", examples=[14.9])
    frames: int = Field(description="Frames that were looked at.", examples=[52110])
    dropped: int = Field(description="Frames left out, because newer ones were there.")
    reconnects: int = Field(description="How often it was lost and came back.")
    latency: Delay
    counts: dict[str, dict[str, int]] = Field(
        description="What the newest frame shows, by head and class.",
        examples=[{"aerial": {"car": 7, "van": 1}}],
    )


class StreamList(BaseModel):
    """All streams, those of the command line first."""

    streams: list[StreamInfo]


class CountHistory(BaseModel):
    """How many objects of each class were seen, second by second, the oldest first."""

    step: float = Field(description="Seconds from one value to the next.", examples=[1.0])
    end: float = Field(description="Unix time of the last value.", examples=[1767225600.0])
    series: dict[str, dict[str, list[float | None]]] = Field(
        description="By head and class: the mean of each second's frames, null without any."
    )


class Analysed(BaseModel):
    """What was counted since the stream was added."""

    time: float = Field(description="Of the last frame, seconds in the stream.")
    now: dict[str, dict[str, int]] = Field(description="Objects in the last frame.")
    tracked: dict[str, dict[str, int]] = Field(description="Objects that got a track, each once.")
    lines: dict[str, dict[str, dict[str, int]]] = Field(
        examples=[{"gate": {"in": {"car": 12}, "out": {"car": 9}}}]
    )
    zones: dict[str, dict[str, Any]] = Field(
        description="Who is inside, who entered, and for how long they stayed (seconds)."
    )


class HeadInfo(BaseModel):
    """A head of the model."""

    name: str = Field(examples=["aerial"])
    kind: str = Field(examples=["detect"])
    classes: list[str] = Field(examples=[["pedestrian", "car"]])
    colors: list[str] = Field(
        description="Of each class in drawings.", examples=[["#ffb000", "#3c78ff"]]
    )
    poses: bool = Field(description="Whether it finds how heads are turned.")


class ModelInfo(BaseModel):
    """The model that runs."""

    name: str = Field(examples=["aerial-n"])
    version: str = Field(description="Of vision_heads.", examples=["0.1.0"])
    height: int = Field(description="Of the network's input, pixels.", examples=[640])
    width: int = Field(examples=[640])
    heads: list[HeadInfo]
    tracks: bool = Field(description="Whether objects in streams are followed.")
    terms: str = Field(description="Of the data it was trained on.")


class Health(BaseModel):
    """The service answers."""

    status: Literal["ok"] = "ok"


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route for OpenAPI."""
    meanings = {
        400: "The request cannot be read.",
        404: "There is no such stream.",
        408: "The request came too slowly.",
        409: "It cannot be done as things are.",
        413: "More bytes or pixels than are allowed.",
        415: "Another sort of content than is understood.",
        422: "A value is wrong; the message names it.",
        503: "Enough to do already; ask again later.",
    }
    return {status: {"model": ErrorBody, "description": meanings[status]} for status in statuses}
