"""A data set's splits as readers: which there are, cut and cached as the configuration says."""

import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import get_class

from segmentation.data.cache import cached, find_store
from segmentation.data.cached import CachedReader
from segmentation.data.channels import check_form
from segmentation.data.checks import check_depth
from segmentation.data.folds import Folds, find_sources, thin_out
from segmentation.data.samples import Reader
from segmentation.errors import UserError, nearest
from segmentation.targets import refusing

log = logging.getLogger(__name__)


class Splits:
    """The readers of a data set, made when they are first asked for.

    Args:
        config: the keys of `DataConfig`, as plain containers.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        with refusing("data.reader"):
            self.kind: Any = get_class(config["reader"]["_target_"])
        self.keywords = {key: value for key, value in config["reader"].items() if key != "_target_"}
        self.listings = {split: listing for split, listing in config["splits"].items() if self._exists(split, listing)}
        if not self.listings:
            raise UserError(self._nothing())
        for split, listing in config["splits"].items():
            if isinstance(listing, str) and split not in self.listings:
                log.warning(f"data.splits.{split}={listing}: not in {config['root']}; going on without this split")
        self.pattern = compile_group(config["group"])
        self.folds = None if config["folds"] is None else Folds(config["folds"], config["fold"], config["fold_seed"])
        self.sources = find_sources(self.listings, self.folds)  # split -> that of the data set from which it is taken
        self._whole: dict[str, Reader] = {}  # by source
        self._readers: dict[str, Reader] = {}

    def _exists(self, split: str, listing: Any) -> bool:
        with refusing("data.reader"):
            return bool(self.kind.exists(root=self.config["root"], split=split, listing=listing, **self.keywords))

    def _nothing(self) -> str:
        name, root = self.config["name"], self.config["root"]
        looked = (
            ", ".join(str(listing) for listing in self.config["splits"].values() if listing)
            or "image that fits data.reader.image"
        )
        cure = "data.download=true fetches it" if self.config["source"].get("files") else "see data.root"
        return f"data.root={root}: not the folder of {name}, no {looked} in it; {cure}"

    def require(self, split: str) -> None:
        """Raise a UserError unless there is such a split."""
        if split not in self.sources:
            missing = split in self.config["splits"] and split not in self.listings
            listing = self.config["splits"].get(split) or "image that fits data.reader.image"
            why = f", no {listing} in {self.config['root']}" if missing else ""
            cure = nearest(split, self.sources)
            if split == "val" and self.folds is None and "train" in self.sources:
                cure = "data.folds=5 holds out a fifth of the training images in its place"
            raise UserError(f"data: {self.config['name']} has no split {split!r}{why}; {cure}")

    def reader(self, split: str) -> Reader:
        """The samples of a split."""
        self.require(split)
        if split not in self._readers:
            source = self.sources[split]
            reader = self._read(source)
            if self.folds is not None and source == "train":
                groups = self.group(reader.names, strict=True) or reader.names
                reader = reader.select(self.folds.positions(split, groups))
            self._readers[split] = reader
        return self._readers[split]

    def _read(self, source: str) -> Reader:
        if source not in self._whole:
            with refusing("data.reader"):
                reader: Reader = self.kind(
                    root=self.config["root"],
                    split=source,
                    listing=self.listings[source],
                    num_classes=len(self.config["classes"]),
                    ignore_index=self.config["ignore_index"],
                    **self._form(),
                    **self.keywords,
                )
            limit = self.config["limit"]
            self._whole[source] = reader if limit is None else reader.select(thin_out(len(reader), limit))
        return self._whole[source]

    def _form(self) -> dict[str, Any]:
        """What a reader is told of its images; nothing where they are as they are by default."""
        told = {key: self.config[key] for key, usual in (("channels", 3), ("white", None)) if self.config[key] != usual}
        known = inspect.signature(self.kind).parameters
        for key, value in told.items():
            if key not in known and not any(one.kind is one.VAR_KEYWORD for one in known.values()):
                raise UserError(f"data.{key}={value}: {self.kind.__name__} gives RGB images of 8 bits; leave it out")
        return told

    def prepare(self, splits: Sequence[str]) -> None:
        """See that every file of these splits can be used, and keep what was decoded for that in the cache, where there
        is one; nothing of both if `data.check` is off.

        Raises:
            UserError: for the first file that cannot.
        """
        for split in splits:
            self.require(split)
        store = find_store(self.config["cache"], self.config["cache_gib"])
        if store is not None and not self.config["check"] and self.config["cache"] != "auto":
            raise UserError(
                f"data.cache={self.config['cache']}: is filled while every file is checked; set data.check=true"
            )
        # By source, so that all folds share one cache.
        for source in dict.fromkeys(self.sources[split] for split in splits) if self.config["check"] else ():
            reader = self._read(source)
            if store is not None:
                reader = cached(reader, store, f"reading {source}", keep=self._whole.values())
                self._whole[source] = reader
            check_form(reader, self.config["channels"])
            reader.check()
            if isinstance(reader, CachedReader):  # others have been read by now, and looked at
                check_depth(reader, source, reader.peaks)
        self._readers.clear()

    def group(self, names: Sequence[str], *, strict: bool = False) -> list[str] | None:
        """The video of every sample, by `data.group`; None where the data set does not say. A name that the expression
        does not fit is a video of its own, or where this is `strict` an error: its video might be in two splits.
        """
        if self.pattern is None:
            return None
        strange = self.ungrouped(names)
        if strict and strange:
            raise UserError(
                f"data.group={self.config['group']}: names no group of {len(strange)} samples, {strange[0]!r} for one; "
                "mend the expression, or let every image be its own by data.group=null"
            )
        return [name if (video := self._video(name)) is None else video for name in names]

    def ungrouped(self, names: Sequence[str]) -> list[str]:
        """The names that `data.group` does not fit."""
        return [name for name in names if self._video(name) is None] if self.pattern else []

    def _video(self, name: str) -> str | None:
        """What `data.group` makes of a name, None where it does not fit."""
        match = self.pattern.match(name) if self.pattern else None
        return match and match[1]


def compile_group(expression: str | None) -> re.Pattern[str] | None:
    """`data.group` as an expression with a group, or a UserError."""
    if expression is None:
        return None
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UserError(f"data.group={expression}: not a regular expression: {error}") from None
    if pattern.groups < 1:
        raise UserError(f"data.group={expression}: put what names the video in parentheses, such as '^([^_]+)'")
    return pattern


def check_labels(classes: Sequence[str], colours: Sequence[Sequence[int]], ignore_index: int) -> None:
    """Raise a UserError unless these can be labels of masks, whose pixels are bytes."""
    if not 2 <= len(classes) <= 255:
        raise UserError(f"data.classes: {len(classes)} of them; give 2 to 255")
    if len(set(classes)) < len(classes):
        raise UserError("data.classes: a name is there twice")
    if len(classes) != len(colours):
        raise UserError(f"data.colours: {len(colours)} for {len(classes)} classes; give each class one")
    for name, colour in zip(classes, colours, strict=True):
        if len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
            raise UserError(f"data.colours: {colour} of {name} is no RGB triple of 0 to 255")
    if not 0 <= ignore_index <= 255:
        raise UserError(
            f"data.ignore_index={ignore_index}: masks hold 0 to 255; map the label by data.reader.label_map"
        )
