"""Command lines as a user in a hurry types them: right, misspelt, of the wrong type, extreme, or no words at all."""

import functools
import itertools
import operator
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from segmentation.config import CONF, SCHEMAS

NUMBERS = ("0", "1", "-1", "2", "3", "7", "0.5", "-0.5", "1e-9", "1e308", "1e309", "inf", "-inf", "nan", "255", "256",
           "1000000000000", "-9223372036854775809", "99999999999999999999", "0x10", "1_0", "00")  # fmt: skip
LISTS = (
    "[]", "[[]]", "[1]", "[0,0]", "[32,48]", "[32,48,64]", "[-32,48]", "[1.5,2]", "[a,b]", "[[1,2],[3]]", "[null]",
    "[nan,1]", "[[0,0,0]]", "[1000000000,1000000000]", "[[300,0,0],[0,0,0]]", "{}", "{a:1}", "{a:{b:[1]}}",
    "{_target_:os.system}", "{_target_:builtins.print}", "{train:0}", "{train:-1,val:2}", "{train:abc}", "{0:1}",
    "[rows,columns]", "[rows,rowz]", "[[rows]]", "{size:0}", "{size:-3}", "{size:abc}", "{x:1}",
)  # fmt: skip
WORDS = (
    "null", "true", "false", "yes", "''", '""', "' '", "auto", "none", "abc", "a.b", "os.system", "torch.nn.Linear",
    "é", "'日本'", "\"it's\"", "'say \"x\"'", "'<script>'", "'a|b'", "'a\\nb'", "'$x$'", "'$\\\\frac'", "'../x'",
    "/nowhere/x", "'('", "'[('", "'{'", "'%'", "x" * 3000, "cpu", "gpu", "tpu", "lr", "batch_size", "val",
    "val/loss", "lstm", "rows", "resnet18", "bf16", "32", "SGD", "Adam", "LBFGS", "Rprop", "sum", "off", "window",
    "resize", "segmentation.models.controls.MLP", "segmentation.models.scans.Scan",
    "segmentation.models.orders.rows",
)  # fmt: skip
REFERENCES = (
    "${nope}", "${seed}", "${data.size}", "${trainer}", "${oc.env:HOME}", "${oc.env:NOT_SET_ANYWHERE}", "${now:%Y}",
    "${hydra:runtime.output_dir}", "${better:x}", "${nope:x}", "${", "'${'", "${.size}", "${..seed}",
    "${oc.decode:abc}", "${oc.create:{a:1}}", "\\${seed}",
)  # fmt: skip
RAW = (
    "=", "a", "a=", "=a", "~", "+", "++", "~=1", "+=1", "a=b=c", "a..b=1", ".a=1", "a.=1", "data@x=1", "data=[",
    "-x", "()", "seed", "seed=", "seed=1,2", "data.size=[1,2", "'", "日本=1", "@", "data.size[0]=1",
    "lstm=none,zigzag", "data.classes=(a)", "a b=1", "$x=1", "seed=glob(*)", "seed=range(1,3)", "seed=choice(1,2)",
)  # fmt: skip
# What is read of a data set in files, and what a user might say of one: patterns, lists, labels, expressions, folders.
FILE_KEYS = (
    "data.root", "data.reader.image", "data.reader.mask", "data.reader.labels", "data.reader.label_map",
    "data.reader.others", "data.reader.masks", "data.reader.colours", "data.reader.void_colours", "data.reader.folders",
    "data.splits.train", "data.splits.val", "data.splits.test", "data.group", "data.cache", "data.source",
)  # fmt: skip
FILE_VALUES = (
    "files", "nowhere", ".", "files/train.txt", "files/train", "train.txt", "test.txt", "train", "null", "1", "''",
    "'{split}/images/{name}.png'", "'{split}/masks/{name}.*'", "'{split}/*/{name}.png'", "'*/images/{name}.png'",
    "'{name}.png'", "'{name}'", "'{split}'", "'{nope}/{name}.png'", "'{name'", "'{}'", "'[{name}'",
    "'../{split}/images/{name}.png'", "'/{name}.png'", "'{split}/images/{name}.jpg'", "'{split}/images/../{name}.png'",
    "'{name!r}.png'", "'{name:>9}.png'", "'{0}.png'", "'{split.x}/{name}.png'", "'\\'", "'a\0b'",
    "[0-8]", "[0,255]", "[0,1,2,3,4,5,6,7,8]", "[8-0]", "[1-x]", "[0,0]", "[-1]", "[300]", "[[0],[1]]", "9", "0-8",
    "{0:1}", "{300:1}", "{a:b}", "{0:255}", "{1:-1}", "{train:val}", "{train:null}", "{train:[val]}", "{train:..}",
    "refuse", "void", "labels", "colours", "[[1,2,3]]", "[[1,2]]", "[[300,0,0]]", "'(v.)_'", "'v._'", "'((v)'", "'(x)'",
    "'()'", "'(v.)_|x'", "'(?P<a>v)'", "'(a+)+$'", "auto", "off", "in/picture.png", "model", "{files:null}",
    "{files:[1]}", "{note:1}", "{files:[{url:x}]}",
)  # fmt: skip
# Keys of groups that belong to other libraries, which no schema lists.
INNER: dict[str, tuple[str, ...]] = {
    "train": (
        "augment.flip.p",
        "augment.zoom.scale",
        "augment.light._target_",
        "decoder._target_",
        "decoder.encoder_depth",
        "loss.class_weights",
        "loss.label_smoothing",
        "loss._target_",
        "loss.ignore_index",
        "scheduler.power",
        "scheduler._target_",
        "aux.maps",
        "aux.weight",
        "callbacks.images.count",
        "callbacks.best.save_top_k",
        "callbacks.best.dirpath",
        "callbacks.best.filename",
        "callbacks.best.every_n_epochs",
        "callbacks.best.save_weights_only",
        "callbacks.last.every_n_train_steps",
        "callbacks.last.train_time_interval",
        "callbacks.last.filename",
        "callbacks.last.monitor",
        "callbacks.last.save_last",
        "callbacks.progress.refresh_rate",
        "callbacks.inspection.folder",
        "callbacks.early_stopping.monitor",
        "callbacks.early_stopping.mode",
        "callbacks.early_stopping.patience",
        "callbacks.ema.decay",
        "callbacks.freeze.parts",
        "callbacks.freeze.epochs",
        "callbacks.freeze.backbone_stages",
        "callbacks.cutmix.probability",
        "callbacks.cutmix.alpha",
        "callbacks.best.monitor",
        "callbacks.best.mode",
        "callbacks.last.every_n_epochs",
        "callbacks.progress.seconds",
        "callbacks.inspection.images",
        "data.reader.size",
        "data.reader.seed",
        "data.reader._target_",
        "data.splits.train",
        "data.splits.test",
        "optimizer.args.momentum",
        "optimizer.args.betas",
        "backbone.args.drop_path_rate",
        "backbone.args.pretrained",
        "backbone.args.features_only",
        "lstm.order_args.size",
        "lstm.order_args.seed",
        "trainer.args.limit_val_batches",
        "trainer.args.callbacks",
        "trainer.args.max_steps",
        "trainer.args.min_steps",
        "trainer.args.limit_train_batches",
        "trainer.args.limit_test_batches",
        "trainer.args.check_val_every_n_epoch",
        "trainer.args.val_check_interval",
        "trainer.args.overfit_batches",
        "trainer.args.log_every_n_steps",
        "trainer.args.num_sanity_val_steps",
        "trainer.args.gradient_clip_algorithm",
        "trainer.args.enable_checkpointing",
        "trainer.args.enable_progress_bar",
        "trainer.args.detect_anomaly",
        "trainer.args.profiler",
        "trainer.args.max_time",
        "trainer.args.inference_mode",
        "trainer.args.reload_dataloaders_every_n_epochs",
        "logger.tensorboard.version",
        "logger.tensorboard.name",
        "logger.tensorboard.save_dir",
        "logger.tensorboard.log_graph",
        "logger.tensorboard.default_hp_metric",
        "logger.tensorboard._target_",
    ),
    "evaluate": ("data.splits.test", "data.reader.size", "data.reader._target_"),
    "predict": (),
    "export": (),
    "push": (),
    "check_data": ("data.splits.test", "data.reader.size", "data.reader._target_", "data.reader.seed"),
    "check_repeat": ("trainer.args.max_steps", "callbacks.best.monitor"),
    "benchmark": ("benchmark.sections.growth", "callbacks.progress.seconds"),
}  # fmt: skip
values = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(LISTS),
    st.sampled_from(WORDS),
    st.sampled_from(REFERENCES),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=8),
    st.text(max_size=8).map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    st.lists(st.integers(-2, 300), max_size=4).map(str),
)


PLAUSIBLE: dict[type, tuple[str, ...]] = {
    bool: ("true", "false"),
    int: ("1", "2", "3", "4"),
    float: ("0.5", "1", "0.1", "0.9"),
}  # by the type of a key's default


def leaves(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """The keys of a schema that hold a value, or an open mapping."""
    for key in config:
        path = f"{prefix}{key!s}"
        missing = OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, str(key))
        node = None if missing else config[key]
        if isinstance(node, DictConfig) and OmegaConf.get_type(node) is not dict:
            yield from leaves(node, f"{path}.")
        else:
            yield path


def schema_keys(command: str) -> list[str]:
    """The leaf keys of a command's schema."""
    return list(leaves(OmegaConf.structured(SCHEMAS[command])))


def plausible(command: str) -> list[str]:
    """`key=value` with values of the right type and about the right size."""
    plain: Any = OmegaConf.to_container(OmegaConf.structured(SCHEMAS[command]), resolve=False)
    found = []
    for key in schema_keys(command):
        default = functools.reduce(operator.getitem, key.split("."), plain)
        found += [f"{key}={value}" for value in PLAUSIBLE.get(type(default), ("null",))]
    return found


def choices_of(command: str) -> list[str]:
    """`group=choice` for every YAML that this command could be told."""
    groups = {"evaluate": ["data"], "check_data": ["data"], "predict": [], "export": [], "push": []}
    every = [path for path in CONF.glob("*/*.yaml") if path.parent.name in groups.get(command, [path.parent.name])]
    return sorted(f"{path.parent.name}={path.stem}" for path in every)


@st.composite
def misspelt(draw: st.DrawFn, word: str) -> str:
    """A word with a letter dropped, doubled or swapped."""
    place = draw(st.integers(0, len(word) - 1))
    return draw(
        st.sampled_from(
            (
                word[:place] + word[place + 1 :],
                word[:place] + word[place] + word[place:],
                word[:place] + "_" + word[place:],
            )
        )
    )


def override(command: str, inner: tuple[str, ...]) -> st.SearchStrategy[str]:
    """One word of a command line.

    Args:
        command: whose schema names the keys.
        inner: further keys, of the groups that belong to other libraries.
    """
    keys = st.sampled_from([*schema_keys(command), *inner])
    group = st.sampled_from(choices_of(command) or ["nothing=here"])
    sign = st.sampled_from(("", "", "", "", "+", "++"))
    fill: Any = st.builds("{}{}={}".format, sign, keys, values)
    known = st.one_of(values, values, st.sampled_from(list(itertools.chain(*PLAUSIBLE.values()))))
    others = st.builds("++{}={}".format, st.sampled_from(inner or ("seed",)), known)
    files = st.builds("++{}={}".format, st.sampled_from(FILE_KEYS), st.sampled_from(FILE_VALUES))
    return st.one_of(
        st.sampled_from(plausible(command)),
        fill,
        others if inner else fill,
        files if "data.root" in schema_keys(command) else fill,
        st.builds("{}={}".format, keys.flatmap(misspelt), values),
        st.builds(
            "+{}.{}={}".format, keys, st.sampled_from(("x", "seed", "_target_", "_partial_", "_args_", "size")), values
        ),
        st.builds("~{}".format, keys),
        st.builds("~{}".format, st.sampled_from(sorted({key.partition(".")[0] for key in schema_keys(command)}))),
        group,
        group.flatmap(misspelt),
        st.sampled_from(RAW),
        st.text(max_size=12),
    )


def command_line(command: str, inner: tuple[str, ...] = ()) -> st.SearchStrategy[list[str]]:
    """One word, or up to three; every mistake hides those after it."""
    one = override(command, inner)
    return st.one_of(*[one.map(lambda word: [word])] * 3, st.lists(one, min_size=2, max_size=3))
