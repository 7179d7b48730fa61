import errno
import logging
import os
import signal
import threading

import pytest
import torch

from bigel.train.checkpoint import endings_deferred, load_checkpoint, save_checkpoint

TENSORS = {
    "a": torch.randn(3, 2),
    "state": torch.arange(5, dtype=torch.uint8),
    "n": torch.tensor(7),
}
FACTS = {"history": [{"loss": 0.1 + 0.2, "alignment": None}], "positions": [3]}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(tmp_path):
    save_checkpoint(tmp_path, 12, TENSORS, FACTS)
    step, tensors, facts = load_checkpoint(tmp_path)
    assert step == 12
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_an_empty_folder_has_none(tmp_path):
    assert load_checkpoint(tmp_path) is None


def test_the_last_two_are_kept_and_nothing_half_written(tmp_path):
    for step in (5, 10, 9999):
        save_checkpoint(tmp_path, step, TENSORS, FACTS)
    assert names(tmp_path) == [
        "step-000000010.json",
        "step-000000010.safetensors",
        "step-000009999.json",
        "step-000009999.safetensors",
    ]
    assert load_checkpoint(tmp_path)[0] == 9999


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def edit(path):
    path.write_text(path.read_text().replace('"positions"', '"position"'))


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        ("safetensors", cut),
        ("safetensors", flip),
        ("safetensors", lambda path: path.unlink()),
        ("json", cut),
        ("json", edit),
        ("json", lambda path: path.write_text("[]")),
    ],
)
def test_a_damaged_one_is_reported_and_the_one_before_is_used(tmp_path, caplog, suffix, damage):
    save_checkpoint(tmp_path, 5, TENSORS, FACTS)
    save_checkpoint(tmp_path, 10, TENSORS, FACTS)
    damage(tmp_path / f"step-000000010.{suffix}")
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(tmp_path)[0] == 5
    assert "step-000000010.json is damaged" in caplog.text
    assert "the one before it is used" in caplog.text


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO, errno.ESTALE])
def test_one_that_cannot_be_read_now_is_not_passed_over(tmp_path, monkeypatch, number):
    for step in (5, 10):
        save_checkpoint(tmp_path, step, TENSORS, FACTS)

    def fail(path):
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("bigel.train.checkpoint.file_digest", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            load_checkpoint(tmp_path)
    assert load_checkpoint(tmp_path)[0] == 10


def test_a_training_that_starts_anew_keeps_its_checkpoints_beside_later_damaged_ones(
    tmp_path, caplog
):
    for step in (8, 12):
        save_checkpoint(tmp_path, step, TENSORS, FACTS)
        flip(tmp_path / f"step-{step:09d}.safetensors")
    assert load_checkpoint(tmp_path) is None
    told = [record.message.rpartition("; ")[2] for record in caplog.records]
    assert told == ["the one before it is used", "training starts anew"]
    save_checkpoint(tmp_path, 4, TENSORS, FACTS)
    assert load_checkpoint(tmp_path)[0] == 4


@pytest.fixture
def handled():
    """Handle SIGTERM by an exception that names it, as the command line does."""

    def end(number, frame):
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, end)
    yield end
    signal.signal(signal.SIGTERM, before)


def test_a_request_to_end_waits_for_the_block(handled):
    done = []
    with pytest.raises(KeyboardInterrupt, match=str(int(signal.SIGTERM))):
        with endings_deferred() as must_end:
            assert not must_end()
            signal.raise_signal(signal.SIGTERM)
            done.append(must_end())
        done.append("after")
    assert done == [True]
    assert signal.getsignal(signal.SIGTERM) is handled


def test_a_second_request_ends_at_once(handled):
    done = []
    with pytest.raises(KeyboardInterrupt), endings_deferred():
        signal.raise_signal(signal.SIGTERM)
        done.append("first")
        signal.raise_signal(signal.SIGTERM)
        done.append("second")
    assert done == ["first"]
    assert signal.getsignal(signal.SIGTERM) is handled


def test_a_block_without_a_request_and_one_that_fails_leave_things_as_they_were(handled):
    with endings_deferred() as must_end:
        assert not must_end()
    with pytest.raises(ZeroDivisionError), endings_deferred():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is handled


def test_what_nobody_handles_and_other_threads_are_left_alone(handled):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    found = []

    def elsewhere():
        with endings_deferred():
            found.append(signal.getsignal(signal.SIGTERM))

    try:
        with endings_deferred():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert found == [handled]
