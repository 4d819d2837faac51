"""What is read of a finished run."""

import os

from zoo.run.finished import weights_sha256


def test_weights_are_hashed_once_and_again_when_a_file_changed(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"first")
    first, stat = weights_sha256(tmp_path), path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights_sha256(tmp_path) == first  # nothing tells it from the file that was read, so it is not read again
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert weights_sha256(tmp_path) != first
    (tmp_path / "model-2.safetensors").write_bytes(b"")
    assert weights_sha256(tmp_path) not in (first, weights_sha256(path.parent / "nowhere"))
