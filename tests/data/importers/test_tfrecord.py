"""TFRecord files: against published checksums, against another implementation, and damaged in every part."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from tests.data.importers import tfrecords
from zreward.common.errors import InputError
from zreward.data.importers import tfrecord
from zreward.data.importers.tfrecord import masked_crc32c, parse_example, read_tfrecord

PUBLISHED = {  # RFC 3720, B.4, and the check value of CRC-32C
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    b"123456789": 0xE3069283,
}


def test_published_checksums() -> None:
    unmasked = [(value - 0xA282EAD8) & 0xFFFFFFFF for value in masked_crc32c(list(PUBLISHED))]
    assert [((value >> 17) | (value << 15)) & 0xFFFFFFFF for value in unmasked] == list(PUBLISHED.values())


def test_checksums_of_texts_of_any_lengths() -> None:
    draw = random.Random(0)
    texts = [draw.randbytes(draw.choice([0, 0, 1, 2, 7, 8, 31, 200])) for _ in range(60)]
    expected = [int.from_bytes(tfrecords.masked(text), "little") for text in texts]
    assert masked_crc32c(texts) == expected
    assert masked_crc32c([]) == [] and masked_crc32c([b""]) == [0xA282EAD8]


def test_reads_what_was_written(tmp_path: Path) -> None:
    contents = [bytes([n % 256]) * n for n in range(300)]  # more than are read together
    tfrecords.write(tmp_path / "a.tfrecord", contents)
    records = list(read_tfrecord(tmp_path / "a.tfrecord"))
    assert [record.content for record in records] == contents
    assert [record.number for record in records] == list(range(1, 301))
    assert {record.fault for record in records} == {None}


def test_a_damaged_content_is_that_records_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    tfrecords.write(path, [b"first", b"second", b"third"])
    whole = path.read_bytes()
    for place, bad in ((whole.index(b"second"), 2), (len(whole) - 1, 3)):  # a content, a checksum
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        faults = [record.fault for record in read_tfrecord(path)]
        assert [n for n, fault in enumerate(faults, 1) if fault] == [bad]
        assert faults[bad - 1] == "its checksum does not match its content"


@pytest.mark.parametrize("place", [0, 9])
def test_a_damaged_length_ends_the_reading(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.tfrecord"
    tfrecords.write(path, [b"first", b"second"])
    whole = path.read_bytes()
    at = len(tfrecords.framed(b"first")) + place
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(InputError, match=r"a\.tfrecord: record 2: the checksum of its length is wrong"):
        list(read_tfrecord(path))


@pytest.mark.parametrize("kept", [3, 11, 14, 20])
def test_a_file_that_ends_too_early(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.tfrecord"
    tfrecords.write(path, [b"first"])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"record 1: the file ends inside it; download the file again"):
        list(read_tfrecord(path))


def test_what_is_no_tfrecord(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(read_tfrecord(tmp_path / "absent.tfrecord"))
    pointer = tmp_path / "dev.tfrecord"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:6db1\nsize 9163974\n")
    with pytest.raises(InputError, match=r"it is a Git LFS pointer; fetch the file itself"):
        list(read_tfrecord(pointer))


FEATURES = {"name": b"a/b.png", "score": 0.25, "counts": [0, 1, 300, -2, 2**40]}


def test_parses_examples() -> None:
    assert parse_example(tfrecords.example(FEATURES)) == {
        "name": [b"a/b.png"],
        "score": [0.25],
        "counts": [0, 1, 300, -2, 2**40],
    }
    assert parse_example(b"") == {}


@pytest.mark.parametrize("kept", [1, 2, 5, 20])
def test_what_is_no_example(kept: int) -> None:
    with pytest.raises(InputError, match=r"not a tf\.train\.Example"):
        parse_example(tfrecords.example(FEATURES)[:kept])


def test_examples_of_another_implementation() -> None:
    """Google's protobuf library writes the same message; unpacked numbers, as old writers made them, are read as well."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="e.proto", package="e", syntax="proto3")
    kinds = {"BytesList": 12, "FloatList": 2, "Int64List": 3}
    for name, kind in kinds.items():
        values = file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=3)
        if kind != 12:
            values.options.packed = kind == 2
    feature = file.message_type.add(name="Feature")
    for number, name in enumerate(kinds, 1):
        feature.field.add(name=name.lower(), number=number, type=11, type_name=f".e.{name}", label=1)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, type_name=".e.Feature", label=1)
    features.field.add(name="feature", number=1, type=11, type_name=".e.Features.FeatureEntry", label=3)
    file.message_type.add(name="Example").field.add(
        name="features", number=1, type=11, type_name=".e.Features", label=1
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    example = message_factory.GetMessageClass(pool.FindMessageTypeByName("e.Example"))()
    example.features.feature["name"].byteslist.value.append(b"a/b.png")
    example.features.feature["score"].floatlist.value.append(0.25)
    example.features.feature["counts"].int64list.value.extend(FEATURES["counts"])
    assert parse_example(example.SerializeToString()) == parse_example(tfrecords.example(FEATURES))


def test_one_long_record_does_not_make_its_neighbours_as_long(tmp_path, monkeypatch):
    """Checksums of many are computed in one table, as wide as the longest."""
    sizes = []
    monkeypatch.setattr(tfrecord, "_AREA", 1000)
    original = tfrecord.masked_crc32c

    def noted(texts):
        sizes.append(len(texts) * max(map(len, texts)))
        return original(texts)

    monkeypatch.setattr(tfrecord, "masked_crc32c", noted)
    contents = [b"a" * size for size in (300, *[5] * 30, 900, *[5] * 200)]
    tfrecords.write(tmp_path / "a.tfrecord", contents)
    found = list(read_tfrecord(tmp_path / "a.tfrecord"))
    assert [one.content for one in found] == contents and not any(one.fault for one in found)
    assert [one.number for one in found] == list(range(1, len(contents) + 1))
    assert 900 <= max(sizes) <= 1000


def test_a_record_of_many_megabytes_is_refused(tmp_path):
    length = struct.pack("<Q", 1 << 25)
    (tmp_path / "a.tfrecord").write_bytes(length + tfrecords.masked(length))
    with pytest.raises(InputError, match="it has 33,554,432 bytes; expected at most"):
        list(read_tfrecord(tmp_path / "a.tfrecord"))
