"""One training a folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from segmentation.errors import UserError
from segmentation.lock import claim

HOLD = """
import sys
from pathlib import Path
from segmentation.lock import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"is being run by process {holder.pid} on "), claim(tmp_path):
        pass
    holder.kill()  # no chance to tidy up
    holder.wait()
    with claim(tmp_path):
        pass
