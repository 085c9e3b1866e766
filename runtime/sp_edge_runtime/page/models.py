"""What the page's interface takes and gives, as JSON; the OpenAPI description is made of these."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
REGION = Field(min_length=1, max_length=100, examples=["left door"])
NAME = Field(min_length=1, max_length=512, examples=["coffee mug"])


class Sent(BaseModel):
    """What a request brings: nothing but what is known."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Failure(BaseModel):
    """Why a request was refused."""

    error: str
    expected: str = ""
    got: str = ""
    reasons: dict[str, int] = Field(default_factory=dict, description="of how many pictures why they were refused")


class SourceState(BaseModel):
    """A source of frames, or a region of one that has a name of its own."""

    id: int
    of: int | None = Field(description="id of the source that this is a region of; null of a source itself")
    name: str
    fixed: bool = Field(description="whether the command line gave it, which alone names it and takes it away")
    live: bool
    state: str = Field(description="initializing, running, restarting, ended or error")
    reason: str
    stale: bool
    fps: float
    frames: int
    region: str | None = Field(description="the part that is looked at, X,Y,W,H; null for all of the picture")
    size: tuple[int, int] | None = Field(description="width and height of its frames, pixels")


class Shot(BaseModel):
    """A picture that a class was taught from."""

    id: str


class ClassState(BaseModel):
    """A taught class."""

    name: str
    by_name: bool = Field(description="known by its name alone, without a picture")
    told_from: str | None = Field(description="the class that these pictures are not of; null of a class")
    threshold: float | None = Field(description="that was set by hand; null where it is calibrated")
    believed_from: float = Field(description="the cosine from which the class is believed")
    strength: float
    shots: list[Shot]


class PageState(BaseModel):
    """All that the page shows besides frames."""

    model: str
    device: str
    sources: list[SourceState]
    classes: list[ClassState]
    bank_version: int
    names_alone: bool = Field(description="whether a class can be taught by its name alone")
    shows_names: bool = Field(description="whether the network tells where it finds a name")
    recent: int
    failure: str


class Health(BaseModel):
    """Whether all works."""

    healthy: bool
    sources: list[str] = Field(description="state of each source")


class Teach(Sent):
    """Teaches from what a source showed in the last seconds."""

    name: str = NAME
    source: int = Field(0, ge=0, le=1 << 31)
    seconds: float = Field(0.0, ge=0, le=10, description="how long the button was held")
    negative: bool = Field(False, description="teach what the class is not")
    force: bool = Field(False, description="keep pictures that are dark, blurred or copies")


class Named(Sent):
    """Names a class."""

    name: str = NAME


class Changed(Sent):
    """Changes a class; what is missing stays, and a threshold of null is calibrated again."""

    name: str = NAME
    to: str | None = Field(None, min_length=1, max_length=512)
    strength: float | None = Field(None, ge=0, le=1)
    threshold: float | None = Field(None, ge=-1, le=1)


class Moved(Sent):
    """Moves a picture of a class to another one; without `to` it is taken out."""

    name: str = NAME
    shot: str = Field(max_length=40)
    to: str | None = Field(None, min_length=1, max_length=512)


class Login(Sent):
    """The token of the link that was printed."""

    token: str = Field(max_length=200)


class Taught(BaseModel):
    """What was taught."""

    name: str
    taken: int
    refused: dict[str, int]
    shots: int
    readable: bool | None = Field(description="whether the model can read the name")
    unlike: int = Field(description="pictures in which nothing looks like the name")


class NameKnown(BaseModel):
    """What the model makes of a name."""

    name: str
    taught: bool
    readable: bool
    encodable: bool = Field(description="whether there is a prompt for it, or a text encoder that makes one")


class Advice(BaseModel):
    """How well the taught classes are told from each other."""

    lines: list[str]
    left_out: int
    right: dict[str, Any] | None = Field(
        description="count, total, share and its interval, of pictures tested without themselves"
    )


class Look(Sent):
    """Looks at a part of a source: x, y, width and height as shares of the picture, 0 to 1; null looks at all of it."""

    region: Annotated[list[Share], Field(min_length=4, max_length=4)] | None


class NewRegion(Sent):
    """Recognizes a part of a source under a name of its own; the numbers are shares of the picture."""

    name: str = REGION
    region: Annotated[list[Share], Field(min_length=4, max_length=4)]


class RegionName(Sent):
    """Gives a region another name."""

    name: str = REGION


class Added(BaseModel):
    """The number of the source that is new."""

    id: int


class Boxes(Sent):
    """What another program found in a source's newest frame: X,Y,W,H each, as shares of 0 to 1 or in pixels."""

    boxes: list[Annotated[list[float], Field(min_length=4, max_length=4)]] = Field(min_length=1, max_length=32)


class KeptFrame(BaseModel):
    """A frame that was kept because it is worth a look."""

    number: int
    time: float
    source: str
    label: str = Field(description="what it is recognized as by now")
    name: str = Field(description="the class that it is most like")
    similarity: float
    why: str = Field(description="first (of its label), change, unsure or different")


class Filed(Sent):
    """Files kept frames under a class; without a name, as none of what they are taken for."""

    numbers: list[int] = Field(min_length=1, max_length=200)
    name: str | None = Field(None, min_length=1, max_length=512)


class Dropped(Sent):
    """Lets kept frames go."""

    numbers: list[int] = Field(min_length=1, max_length=200)


class Gain(BaseModel):
    """What teaching changed."""

    taken: int
    refused: dict[str, int]
    changed: int = Field(description="kept frames that have another label now")
    before: dict[str, Any] | None = Field(description="pictures told right without themselves, before: count, total, interval")
    after: dict[str, Any] | None


class Effect(BaseModel):
    """What a threshold would do to the kept frames that are most like a class."""

    value: float
    now: float = Field(description="the threshold that counts now")
    accepted: list[int] = Field(description="numbers of kept frames")
    refused: list[int]
    share: dict[str, Any] | None = Field(description="of accepted ones: count, total, share and its 95 % interval")


class Threshold(Sent):
    """Sets the cosine from which a class is believed; without a name, that of every class; null is calibrated again."""

    name: str | None = Field(None, min_length=1, max_length=512)
    value: float | None = Field(ge=-1, le=1)


class Compared(BaseModel):
    """In what a bank differs from the one that is in use."""

    classes: list[dict[str, Any]]
    conflict: str = Field(description="why the two cannot be merged unless one is preferred; empty where they can")


class History(BaseModel):
    """Which changes can be taken back."""

    undoable: int


class Ok(BaseModel):
    """It is done."""

    ok: bool = True
