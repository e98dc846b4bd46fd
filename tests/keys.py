"""Every key of the configuration, with two values that differ in what they do, and how that is observed."""

from typing import NamedTuple

from segmentation.data.scenes import CLASSES
from tests import observed
from tests.observed import Observe


class Row(NamedTuple):
    key: str
    observe: Observe
    first: str
    second: str
    both: tuple[str, ...] = ()


FILES = ("data=folder", "data.root={folder}/a", "data.classes=[no,yes]", "data.size=[32,48]", "data.batch_size=2",
         "data.cache={folder}/cache", "data.channels=1", "augment=none", "data.colours=null",
         "data.splits={train:null,val:null,test:null}")  # fmt: skip
FOLDS = ("data.folds=3", "data.group='(v.)_'")
SCALED = ("lstm.order=[rows,columns]", "decoder=fpn")
n, t, s = observed.network, observed.task, observed.samples
ROWS = [
    Row("seed", observed.trained, "0", "1", ("trainer.fast_dev_run=true", "test=false")),
    Row("train", observed.resumed, "true", "false"),
    Row("test", observed.run, "true", "false"),
    Row("find", observed.run, "null", "batch_size", ("test=false",)),
    Row("ckpt", observed.resumed, "null", "auto"),
    Row("resume", observed.resumed, "false", "true"),
    Row("monitor", observed.watchers, "val/mean_iou", "val/loss"),
    Row("output", observed.watchers, "a", "b"),
    Row("data.name", observed.card, "hither", "thither", ("trainer.fast_dev_run=true",)),
    Row("data.root", s, "{folder}/a", "{folder}/b", FILES),
    Row("data.reader", s, "{seed:0}", "{seed:1}"),
    Row("data.splits", s, "{train:8,val:3,test:3}", "{train:4,val:3,test:3}"),
    Row("data.classes", s, "[no,yes]", "[yes,no]", FILES),
    Row("data.colours", s, "null", "[[1,2,3],[4,5,6]]", FILES),
    Row("data.ignore_index", s, "255", "200"),
    Row("data.channels", s, "1", "3", FILES),
    Row("data.white", s, "null", "4095", FILES),
    Row("data.mean", n, "null", "[0.1,0.2,0.3]"),
    Row("data.std", n, "null", "[0.1,0.2,0.3]"),
    Row("data.shown", s, "null", "[2,1,0]"),
    Row("data.group", s, "null", "'(v.)_'", FILES),
    Row("data.folds", s, "null", "3", FILES),
    Row("data.fold", s, "0", "1", FILES + FOLDS),
    Row("data.fold_seed", s, "0", "5", (*FILES, "data.folds=3")),
    Row("data.limit", s, "null", "2", FILES),
    Row("data.download", s, "false", "true"),
    Row("data.source", s, "{note:here}", "{note:there}", ("data.download=true",)),
    Row("data.balance", s, "0", "1", (*FILES, "data.batch_size=6")),
    Row("data.size", s, "[32,48]", "[64,96]"),
    Row("data.check", s, "true", "false", FILES),
    Row("data.cache", s, "{folder}/cache", "off", FILES),
    Row("data.cache_gib", s, "8", "0", FILES),
    Row("data.batch_size", s, "4", "2"),
    Row("data.eval_batch_size", s, "1", "2"),
    Row("data.num_workers", s, "0", "1"),
    Row("augment", s, "default", "none"),
    Row("backbone.name", n, "test_resnet", "test_byobnet"),
    Row("backbone.weights", n, "none", "package", ("backbone.name=tf_efficientnet_lite0",)),
    Row("backbone.output_stride", n, "16", "32"),
    Row("backbone.checkpointing", n, "false", "true"),
    Row("backbone.args", n, "{act_layer:relu}", "{act_layer:gelu}"),
    Row("decoder", n, "fcn", "fpn"),
    Row("lstm._target_", n, "segmentation.models.controls.MLP", "segmentation.models.controls.identity"),
    Row("lstm.order", n, "rows", "snake"),
    Row("lstm.order_args", n, "{size:1}", "{size:2}", ("lstm.order=windows",)),
    Row("lstm.combine", n, "stack", "sum", SCALED),
    Row("lstm.cell", n, "lstm", "gru"),
    Row("lstm.hidden_size", n, "4", "5"),
    Row("lstm.num_layers", n, "1", "2"),
    Row("lstm.bidirectional", n, "true", "false"),
    Row("lstm.residual", n, "true", "false"),
    Row("lstm.stride", n, "auto", "null", SCALED),
    Row("lstm.chunk", n, "null", "4"),
    Row("loss", t, "cross_entropy", "focal"),
    Row("aux", t, "none", "deep"),
    Row("optimizer.name", t, "SGD", "Adam"),
    Row("optimizer.lr", t, "0.1", "0.2"),
    Row("optimizer.backbone_lr_factor", t, "1", "0.1"),
    Row("optimizer.layer_decay", t, "1", "0.5"),
    Row("optimizer.weight_decay", t, "0", "0.1"),
    Row("optimizer.args", t, "{momentum:0.9}", "{momentum:0.8}", ("optimizer=sgd",)),
    Row("scheduler", t, "polynomial", "cosine"),
    Row("trainer.channels_last", t, "true", "false"),
    Row("trainer.compile", t, "false", "true"),
    Row("trainer.max_epochs", observed.trainer, "1", "2"),
    Row("trainer.accelerator", observed.trainer, "cpu", "tpu"),
    Row("trainer.devices", observed.trainer, "1", "2", ("trainer.strategy=ddp",)),
    Row("trainer.num_nodes", observed.trainer, "1", "2", ("trainer.strategy=ddp",)),
    Row("trainer.strategy", observed.trainer, "auto", "ddp"),
    Row("trainer.precision", observed.trainer, "32", "bf16"),
    Row("trainer.deterministic", observed.trainer, "false", "true"),
    Row("trainer.accumulate_grad_batches", observed.trainer, "1", "2"),
    Row("trainer.gradient_clip_val", observed.trainer, "null", "1"),
    Row("trainer.fast_dev_run", observed.trainer, "false", "true"),
    Row("trainer.args", observed.trainer, "{limit_val_batches:1}", "{limit_val_batches:2}"),
    Row("callbacks", observed.watchers, "default", "ema"),
    Row("logger", observed.watchers, "tensorboard", "none"),
]

# Of a data set's group, for the commands that have no training: key -> first value, second, the words of both.
WORLD = ("data=folder", "data.root={folder}/a", "data.colours=null", "data.cache={folder}/cache", "data.size=[32,48]",
         f"data.classes=[{','.join(CLASSES)}]")  # fmt: skip
HELD_OUT = (*WORLD, *FOLDS, "split=val")  # of which `split` is evaluate's
DATA = {
    "data.name": ("x", "y", (*WORLD, "data.root={folder}")),
    "data.root": ("{folder}/a", "{folder}/b", WORLD),
    "data.reader": ("{image:'{split}/images/{name}.png'}", "{image:'{split}/masks/{name}.png'}", WORLD),
    "data.splits": ("{test:null}", "{test:few.txt}", WORLD),
    "data.classes": (f"[{','.join(CLASSES)}]", f"[{','.join(reversed(CLASSES))}]", WORLD),
    "data.colours": ("null", f"[{','.join(f'[{label},9,9]' for label in range(9))}]", WORLD),
    "data.ignore_index": ("255", "200", WORLD),
    "data.channels": ("3", "4", WORLD),
    "data.white": ("null", "4095", WORLD),
    "data.shown": ("null", "[2,1,0]", ()),
    "data.group": ("null", "'(v.)_'", HELD_OUT),
    "data.folds": ("null", "3", (*WORLD, "split=val")),
    "data.fold": ("0", "1", HELD_OUT),
    "data.fold_seed": ("0", "5", (*WORLD, "data.folds=3", "split=val")),
    "data.limit": ("null", "1", WORLD),
    "data.download": ("false", "true", WORLD),
    "data.source": ("{note:here}", "{note:there}", (*WORLD, "data.download=true")),
    "data.size": ("[32,48]", "[64,96]", ()),
    "data.check": ("true", "false", WORLD),
    "data.cache": ("{folder}/cache", "off", WORLD),
    "data.cache_gib": ("8", "0", WORLD),
    "data.eval_batch_size": ("1", "2", WORLD),
    "data.num_workers": ("0", "1", WORLD),
}
