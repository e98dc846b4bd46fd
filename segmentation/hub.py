"""The Hugging Face Hub, through its own client: what goes wrong there ends in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, get_token, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from segmentation.errors import UserError
from segmentation.reading import no_links

# Checkpoints, predictions and logs stay at home.
SENT = ("model.safetensors", "model.json", "README.md", "metrics.json", "plots/*.png")
HUB = "hf://"
# The root of the HTTP library's errors, which differs between the client's releases, and OSError.
OUTAGE: tuple[type[BaseException], ...] = HfHubHTTPError.__bases__
STATUS = {
    401: "the token is not valid; run `hf auth login`, or set HF_TOKEN",
    403: "the token has no right to write there; make one that has, or choose another repo",
    404: "there is no such repository, or the token may not see it",
}


def files_of(folder: Path) -> list[Path]:
    """What of a run's folder is sent."""
    found = sorted(path for pattern in SENT for path in folder.glob(pattern) if path.is_file())
    no_links(folder, found)
    return found


def push(folder: Path, repo: str, *, private: bool = False) -> str:
    """Send a run's files to a repository, which is made where it is not there.

    Returns:
        The address of the repository.
    """
    if get_token() is None:
        raise UserError("no token for the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN")
    with in_one_line(repo):
        api = HfApi()
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id, folder_path=folder, allow_patterns=list(SENT), commit_message="A trained model"
        )
        return str(address)


def fetch(address: str) -> Path:
    """The folder with the two files of the model at hf://USER/NAME, downloaded where they are not there yet."""
    repo = address.removeprefix(HUB)
    with in_one_line(repo):
        return Path(snapshot_download(repo, allow_patterns=list(SENT[:2])))


@contextmanager
def in_one_line(repo: str) -> Iterator[None]:
    """Make a UserError of what the client raises."""
    try:
        yield
    except HFValidationError as error:
        raise UserError(f"repo={repo}: not the name of a repository; give USER/NAME") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = STATUS.get(status, " ".join(str(error).split())[:160])
        raise UserError(f"repo={repo}: the Hub answers {status}: {reason}") from error
    except OfflineModeIsEnabled as error:
        raise UserError(f"repo={repo}: HF_HUB_OFFLINE is set; unset it to reach the Hub") from error
    except OUTAGE as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"repo={repo}: the Hub cannot be reached; check the network: {reason}") from error
