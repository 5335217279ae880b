"""A damaged stream is a fault with a name, never the end of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import get_decoder, get_encoder
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicomnode.codecs import DECODER_OF, ENCODER_OF, decoded_frames
from dicomnode.contexts import LOSSLESS_OF
from tests.builders_dicom import write_ct_series
from tests.builders_objects import write_picture

DAMAGE = """
import logging, random, sys, warnings
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from dicomnode.codecs import decoded_frames
logging.disable(50)
warnings.simplefilter("ignore")
dataset = dcmread(sys.argv[1])
whole = next(generate_frames(dataset.PixelData, number_of_frames=1))
raised = 0
for seed in range(60):
    chance, frame = random.Random(seed), bytearray(whole)
    for _ in range(chance.choice([1, 3, 20])):
        frame[chance.randrange(len(frame) if seed % 2 else 120)] = chance.randrange(256)
    dataset.PixelData = encapsulate([bytes(frame[: chance.randrange(len(frame)) if seed % 5 == 0 else None])])
    dataset["PixelData"].is_undefined_length = True
    try:
        list(decoded_frames(dataset))
    except Exception:
        raised += 1
print(raised)
"""


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless], ids=lambda uid: uid.keyword)
def test_a_damaged_stream_raises_and_the_process_lives_on(tmp_path: Path, syntax: str) -> None:
    (path,) = write_ct_series(tmp_path, slices=1, transfer_syntax_uid=syntax)
    done = subprocess.run([sys.executable, "-c", DAMAGE, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 10


@pytest.mark.parametrize("uid", DECODER_OF, ids=lambda uid: uid.keyword)
def test_every_named_decoder_is_here(uid: str) -> None:
    assert DECODER_OF[uid] in get_decoder(UID(uid)).available_plugins


def test_every_compression_a_peer_may_wish_has_its_encoder() -> None:
    assert set(ENCODER_OF) == set(LOSSLESS_OF.values())
    for uid, name in ENCODER_OF.items():
        assert name in get_encoder(UID(uid)).available_plugins


def test_a_colour_frame_comes_pixel_by_pixel_and_says_so(tmp_path: Path) -> None:
    ((colours, properties),) = decoded_frames(dcmread(write_picture(tmp_path / "p.dcm", planar=1)))
    assert colours.shape == (41, 43, 3) and properties["planar_configuration"] == 0


def test_unused_bits_are_seen_when_they_are_asked_for(tmp_path: Path) -> None:
    (path,) = write_ct_series(tmp_path, slices=1)
    dataset = dcmread(path)
    words = np.frombuffer(dataset.PixelData, "<u2").copy()
    words[5] |= 0x8000
    dataset.PixelData = words.tobytes()
    ((values, _),), ((whole, _),) = decoded_frames(dataset), decoded_frames(dataset, all_bits=True)
    assert np.array_equal(whole.ravel(), words)
    assert np.array_equal(values.ravel(), words & 0x0FFF)
