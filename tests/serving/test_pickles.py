"""The pickle protocol: what its two callers send is read, whatever else a pickle may hold is refused, unharmed and cheaply."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from zreward.common.errors import InputError
from zreward.serving.pickles import read_request, reply

IMAGES = [b"\x89PNG one", bytes(range(256)) * 300]
PROMPTS = ["a red circle", "ein blaues Kreuz \u2713"]


def request(prompts: object, images: object = IMAGES) -> dict:
    return {"images": images, "prompts": prompts, "metadata": {"step": 3, "ratio": 0.5, "flags": [True, None]}}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "prompts",
    [PROMPTS, tuple(PROMPTS), np.array(PROMPTS), np.array(PROMPTS, object), [np.str_(one) for one in PROMPTS]],
    ids=["list", "tuple", "texts", "objects", "scalars"],
)
def test_what_the_callers_send_is_read(protocol, prompts):
    assert read_request(pickle.dumps(request(prompts), protocol)) == (IMAGES, PROMPTS)


def test_images_may_be_a_tuple_or_an_array_and_repeat_one_object():
    shown = np.array([b"one", b"another"])
    assert read_request(pickle.dumps(request(PROMPTS, shown))) == ([b"one", b"another"], PROMPTS)
    assert read_request(pickle.dumps(request(["x"] * 3, (IMAGES[0],) * 3))) == ([IMAGES[0]] * 3, ["x"] * 3)
    assert read_request(pickle.dumps(request(np.array(PROMPTS).astype(">U20")))) == (IMAGES, PROMPTS)


def test_replies_are_pickles_of_plain_data():
    assert pickle.loads(reply({"rewards": [1.5]})) == {"rewards": [1.5], "outputs": [1.5], "scores": [1.5]}


def call(module: str, name: str, arguments: object) -> bytes:
    """A pickle of a call, as one finds them in attacks."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"R."


def with_state(dtype: bytes, shape: tuple, raw: object) -> bytes:
    """A numpy array whose dtype, shape and bytes are given, as prompts."""

    def plain(value: object) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + plain((0,)) + b"U\x01btR"
    array = array.replace(b"U\x01b", plain("b"))
    state = b"(" + plain(1) + plain(shape) + dtype + b"\x89" + (b"B" + len(raw).to_bytes(4, "little") + raw) + b"tb"
    return b"\x80\x03}(" + plain("images") + plain([]) + plain("prompts") + array + state + b"u."


def dtype(code: str, state: object = None) -> bytes:
    built = b"cnumpy\ndtype\n" + pickle.dumps((code, False, True), 2)[2:-1] + b"R"
    return built if state is None else built + pickle.dumps(state, 2)[2:-1] + b"b"


@pytest.mark.parametrize(
    "body",
    [
        call("os", "system", ("true",)),
        call("builtins", "eval", ("1",)),
        call("numpy", "dtype", ("O",)),
        call("numpy", "dtype", ([("a", "O")],)),
        call("numpy", "dtype", ("V8",)),
        call("numpy", "dtype", ("U9999999999999",)),
        call("numpy", "ndarray", ((2**40,),)),
        call("numpy.core.multiarray", "_reconstruct", (1, 2, 3)),
        call("_codecs", "encode", ("x" * 9, "zip")),
        call("_codecs", "encode", ("\u2713", "latin1")),
        with_state(dtype("O"), (2,), b"A" * 16),
        with_state(dtype("O", (3, "|", None, None, None, 8, 8, 0)), (2,), b"A" * 16),
        with_state(dtype("U4", (3, "<", (("f", (2,)),), None, None, 16, 4, 0)), (1,), b"A" * 16),
        with_state(dtype("U4"), (2**40,), b"A" * 16),
        with_state(dtype("U0"), (2**40,), b""),
        with_state(dtype("S1"), (50_000,), b"A" * 50_000),
        with_state(dtype("U1"), (-1,), b""),
        with_state(dtype("U1"), (1, 1), b"A" * 4),
        with_state(dtype("U1"), (1,), b"\xff" * 4),  # no letter of Unicode
        b"\x80\x04N.",
        b"\x80\x04Nr" + (2**31 - 1).to_bytes(4, "little") + b".",  # a far place of the memo
        b"\x80\x04\x8a\xff" + b"\x7f" * 255 + b".",
        b"(" * 1000 + b".",
        b"]" + b"2a" * 50 + b".",  # DUP
        b"0.",
        b"t.",
        b"a.",
        b"g5\n.",
        b"P1\n.",  # a persistent name
        b"\x82\x01.",  # an extension
        b"\x96" + b"\xff" * 8 + b"x.",  # 2^64 bytes announced
        b"X\xff\xff\xff\x7fx.",
        b"",
        b"not a pickle",
        pickle.dumps(request(7)),
        pickle.dumps(request(PROMPTS, 7)),
        pickle.dumps(request(["x", 3])),
        pickle.dumps(request(PROMPTS, ["x", "y"])),
        pickle.dumps(request([], [])),
        pickle.dumps(request(PROMPTS * 2)),
        pickle.dumps(request(np.array([["a", "b"]]))),
        pickle.dumps(request(np.array([1, 2]))),
        pickle.dumps({(1, 2): 3}),
        pickle.dumps([list(range(9))] * 9),
        pickle.dumps(list(range(10**5))),
        pickle.dumps({1, 2}),
        pickle.dumps(ValueError("x")),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_anything_else_is_refused_with_a_reason(body):
    with pytest.raises(InputError, match="pickle|images|prompt"):
        read_request(body)


def test_a_call_is_not_made_whatever_it_is(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    with pytest.raises(InputError, match="not a pickle of plain data"):
        read_request(pickle.dumps(request([Evil()], [b"x"])))
    assert not (tmp_path / "written").exists()


def test_a_text_cannot_be_copied_again_and_again():
    """100 kB in the memo, encoded 2,000 times by nine bytes each: 200 MB, were it done."""
    text = b"X" + (100_000).to_bytes(4, "little") + b"a" * 100_000 + b"q\x00"
    again = b"c_codecs\nencode\nh\x00\x85R"
    with pytest.raises(InputError, match="again and again"):
        read_request(b"\x80\x02](" + text + again * 2000 + b"e.")


@pytest.mark.parametrize(
    "code",
    [
        b"]" * 24_000 + b"a" * 23_999,  # a list in a list in a list ...
        b"]q\x00"
        + b"".join(b"](" + b"h%c" % n * 9 + b"eq%c" % (n + 1) for n in range(40)),  # 9 ** 40 lists, in writing
    ],
    ids=["deep", "wide"],
)
def test_what_a_dtype_is_made_of_is_not_written_out(code):
    body = b"\x80\x04(" + code + b"q\xffcnumpy\ndtype\nh\xff\x85R."
    with pytest.raises(InputError, match="not a pickle of plain data .a numpy array of"):
        read_request(body)


def test_a_list_that_holds_itself_is_no_request():
    body = b"\x80\x04}q\x00(X\x06\x00\x00\x00images]q\x01h\x01aX\x07\x00\x00\x00promptsh\x01u."
    with pytest.raises(InputError, match="images"):
        read_request(body)


FUZZ = """
import random, resource, sys
from tests.serving.test_pickles import seeds
from zreward.common.errors import InputError
from zreward.serving.pickles import read_request
rng, bodies, read = random.Random(int(sys.argv[1])), seeds(), 0
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(int(sys.argv[2])):
    body = bytearray(rng.choice(bodies))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(body) + 1)
        kind = rng.randrange(5)
        if kind == 0: body[at:at + 1] = bytes([rng.randrange(256)])
        elif kind == 1: body[at:at + rng.randrange(9)] = b""
        elif kind == 2: body[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3: body[at:at + 4] = rng.choice((b"\\xff\\xff\\xff\\x7f", b"\\xff" * 8, b"\\x00" * 4))
        else:
            other = rng.choice(bodies)
            start = rng.randrange(len(other))
            body[at:at] = other[start:start + rng.randrange(40)]
    try:
        read_request(bytes(body))
        read += 1
    except InputError as error:
        assert len(str(error)) < 1000
print(read, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def seeds() -> list[bytes]:
    """Valid requests of all protocols, and some of the attacks above."""
    found = [
        pickle.dumps(request(prompts, [b"a", b"bc"]), protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        for prompts in (PROMPTS, np.array(PROMPTS), np.array(PROMPTS, object))
    ]
    return [*found, with_state(dtype("O", (3, "|", None, None, None, 8, 8, 0)), (2,), b"A" * 16)]


def test_mutated_pickles_neither_crash_nor_take_memory():
    """In a process of its own: a crash would be the tests' own. 1 GiB of address space beside what is loaded."""
    done = subprocess.run([sys.executable, "-c", FUZZ, "1", "15000"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    read, grown = map(int, done.stdout.split())
    assert read > 100, "the mutations are too harsh to test anything"
    assert grown < 50, f"{grown} MiB more"
