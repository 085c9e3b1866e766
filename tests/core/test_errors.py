from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from sp_edge import errors
from sp_edge.errors import BackendError, BundleError, ExportError, InputError, MissingExtraError, SpEdgeError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, SpEdgeError)]


def make(kind: type[SpEdgeError]) -> SpEdgeError:
    if kind is MissingExtraError:
        return MissingExtraError("no camera", package="opencv-python-headless", extra="camera")
    return kind("broken", expected="whole", got="half", next_step="mend it")


def test_the_tree_drawn_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^((?:[| ] {3})*(?:\|-- |`-- )?)([A-Z]\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception"
    assert drawn == {c.__name__: c.__base__.__name__ for c in CLASSES}
    assert len(drawn) >= 13


def test_the_message_says_what_expected_got_and_next() -> None:
    error = BundleError("a file has changed", expected="5 bytes", got="6 bytes", next_step="copy it again")
    assert str(error) == "a file has changed\n  expected: 5 bytes\n  got: 6 bytes\n  next: copy it again"
    assert (error.what, error.expected, error.got, error.next_step) == (
        "a file has changed",
        "5 bytes",
        "6 bytes",
        "copy it again",
    )


def test_what_is_not_known_is_left_out() -> None:
    assert str(SpEdgeError("broken")) == "broken"
    assert str(SpEdgeError("broken", next_step="mend it")) == "broken\n  next: mend it"


def test_a_missing_extra_says_how_to_install_it() -> None:
    assert str(make(MissingExtraError)) == (
        "no camera\n  expected: the package opencv-python-headless\n  got: not installed\n  next: pip install 'sp-edge[camera]'"
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_the_users_input_exits_with_2_and_ours_with_1(kind: type[SpEdgeError]) -> None:
    assert make(kind).exit_code == (2 if issubclass(kind, InputError) else 1)
    assert not issubclass(kind, OSError | ValueError)


def test_errors_of_ours_are_not_the_users() -> None:
    assert not issubclass(ExportError, InputError)
    assert not issubclass(BackendError, InputError)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("transport", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301
def test_an_error_crosses_from_a_worker_process_to_its_parent(kind: type[SpEdgeError], transport: object) -> None:
    error = make(kind)
    arrived = transport(error)  # type: ignore[operator]
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
