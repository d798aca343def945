"""RFC 3339 as Kubernetes writes and reads it (spec 0.2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.event.times import MICROSECOND, SECOND, decode_time, encode_micro_time, encode_time

FIRST_NS, LAST_NS = -62_135_596_800 * SECOND, 253_402_300_800 * SECOND - 1
TIMES = st.integers(FIRST_NS + 1, LAST_NS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.client_go("DER-38")
def test_times_are_cut_never_rounded():
    t_ns = 1_784_901_930_999_999_999
    assert "2026-07-24T14:05:30Z" == encode_time(t_ns)
    assert "2026-07-24T14:05:30.999999Z" == encode_micro_time(t_ns)


@pytest.mark.client_go("DER-38")
def test_the_zero_time_is_null():
    assert (None, None, None) == (encode_time(None), encode_micro_time(None), decode_time(None))
    assert decode_time("0001-01-01T00:00:00Z") is None


@given(TIMES)
def test_times_agree_with_datetime(t_ns):
    moment = EPOCH + timedelta(microseconds=t_ns // MICROSECOND)
    text = f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}"
    assert f"{text}Z" == encode_time(t_ns)
    assert f"{text}.{moment:%f}Z" == encode_micro_time(t_ns)


@given(TIMES)
def test_what_was_written_is_read_back_up_to_what_was_cut(t_ns):
    for unit, encode in ((MICROSECOND, encode_micro_time), (SECOND, encode_time)):
        cut = t_ns // unit * unit
        assert (None if cut == FIRST_NS else cut) == decode_time(encode(t_ns))  # Go's zero time is None


@pytest.mark.parametrize(
    ("text", "t_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01t02:00:00.000000001+02:00", 1),
        ("1969-12-31 23:30:00-00:30", 0),
        ("1970-01-01T00:00:00.1234567899Z", 123_456_789),
        ("1970-01-01T00:00:00,5Z", 500_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * SECOND),
    ],
)
def test_any_offset_and_any_number_of_digits_is_read(text, t_ns):
    assert t_ns == decode_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-07-24",
        "2026-07-24T14:05:30",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-07-24T24:00:00Z",
        "2026-07-24T00:60:00Z",
        "2026-07-24T00:00:60Z",
        "2026-07-24T00:00:00+24:00",
        "0000-01-01T00:00:00Z",
        "٢026-07-24T00:00:00Z",
        "2026-07-24T00:00:00Z\n",
    ],
)
def test_other_texts_are_refused_with_one_line(text):
    with pytest.raises(ValueError, match="not an RFC 3339 time") as caught:
        decode_time(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_value_error(text):
    try:
        assert isinstance(decode_time(text), int | None)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most texts are refused


@pytest.mark.parametrize("t_ns", [FIRST_NS - 1, LAST_NS + 1])
@pytest.mark.parametrize("encode", [encode_time, encode_micro_time])
def test_years_of_other_than_four_digits_cannot_be_written(encode, t_ns):
    with pytest.raises(ValueError, match="out of range"):
        encode(t_ns)
